/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * related.h - whether an ICMP error may be believed to be about the packet that it quotes. It must
 * go to whom that packet came from, or anybody could wrap in it what he is not allowed to send
 * elsewhere. What a pod sends must also be about a packet that went to this pod.
 *
 * Source: RFC 5508, 3.1; nf_conntrack demands the same.
 */
#pragma once
#include "lib/pod.h"
#include "lib/translate.h"

/*
 * RELATED, or why it is dropped: then `packet` bears the tuple of the error itself, so that its
 * event names who sent it. `interface`: of the pod that sends it; 0: no local pod does. For the
 * verifier.
 */
__attribute__((noinline)) int related(struct __sk_buff *skb, struct packet *packet, __u32 interface)
{
	struct envelope outer;
	int verdict = MALLA_VERDICT_UNRELATED;

	if (!packet || translate_read_envelope(skb, packet->network, &outer))
		return MALLA_VERDICT_MALFORMED;
	if (interface && pod_interface(&outer.source) != interface)
		verdict = MALLA_VERDICT_SPOOFED;
	else if (address_is_equal(&outer.target, &packet->flow.target) &&
		 (!interface || pod_interface(&packet->flow.source) == interface))
		return MALLA_VERDICT_RELATED;
	packet->flow.source = outer.source;
	packet->flow.target = outer.target;
	packet->flow.source_port_be = 0;
	packet->flow.target_port_be = 0;
	packet->flow.protocol = translate_is_ip4(skb) ? IPPROTO_ICMP : ICMPV6;
	return verdict;
}
