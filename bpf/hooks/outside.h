/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * outside.h - services for those outside: tc ingress at the uplinks, behind from_fabric, and the
 * ways back. Node ports, external and load balancer's addresses lead
 *  - to a pod of this node: its interface's to_pod judges it, by its real source;
 *  - to another node, from this node's own address, by the node's routes;
 *  - to a server of this node itself, up the stack.
 * The answers are met where they come from: behind from_pod, at the uplinks, or leaving by one.
 * None of this goes through the node's netfilter, so that the rules of kube-proxy beside us, and
 * what they know of connections, do not matter.
 *
 * Fails open for what is no service; a service that cannot be served here is refused at once.
 */
#pragma once
#include "lib/count.h"
#include "lib/guard.h"
#include "lib/nat.h"
#include "lib/refuse.h"
#include "lib/related.h"
#include "lib/setting.h"
#include "lib/spoof.h"
#include "lib/tell.h"
#include "lib/way.h"

static __always_inline int outside_reads(struct __sk_buff *skb, __u32 network,
					 struct packet *packet)
{
	return packet_read(skb, network, packet) == MALLA_VERDICT_PASS;
}

static __always_inline int outside_refuses(enum malla_verdict verdict)
{
	return verdict != MALLA_VERDICT_TRANSLATED && verdict != MALLA_VERDICT_TRANSLATED_BACK &&
	       verdict != MALLA_VERDICT_TOO_LONG && verdict != MALLA_VERDICT_EXPIRED;
}

/* A flow that is known: TRANSLATED or TRANSLATED_BACK; NO_ENDPOINT: its endpoint is gone. */
static __always_inline enum malla_verdict outside_follow(const struct packet *packet,
							 struct malla_flow_key *becomes)
{
	struct malla_snat *entry = bpf_map_lookup_elem(&malla_snat, &packet->flow);

	if (!entry)
		return MALLA_VERDICT_PASS;
	if (entry->kind != MALLA_NAT_FROM_FABRIC && entry->kind != MALLA_NAT_FROM_REMOTE)
		return MALLA_VERDICT_PASS;
	/* Who dials again from the same port gets an endpoint of now. */
	if (packet_opens(packet) &&
	    (nat_is_closed(entry) || nat_is_over(entry, packet->flow.protocol, bpf_ktime_get_ns())))
		return MALLA_VERDICT_PASS;
	if (entry->state & NAT_CUT)
		return MALLA_VERDICT_NO_ENDPOINT;
	nat_note(entry, packet);
	*becomes = entry->becomes;
	return entry->kind == MALLA_NAT_FROM_FABRIC ? MALLA_VERDICT_TRANSLATED
						    : MALLA_VERDICT_TRANSLATED_BACK;
}

/* What an uplink's packet is to become. */
static __always_inline enum malla_verdict outside_judge(const struct packet *packet,
							struct malla_flow_key *becomes)
{
	struct malla_end target = flow_target(&packet->flow);
	const struct malla_service *service;
	enum malla_verdict verdict;

	if (pod_find(&target.address))
		return MALLA_VERDICT_PASS;
	verdict = outside_follow(packet, becomes);
	if (verdict != MALLA_VERDICT_PASS || !nat_begins(packet))
		return verdict;
	service = service_meant_outside(&target);
	if (!service)
		return nat_overrule(&packet->flow, 0) ? MALLA_VERDICT_SNAT_PORTS
						      : MALLA_VERDICT_PASS;
	if (spoof_is_here(&packet->flow.source))
		return MALLA_VERDICT_SPOOFED;
	return nat_open_outside(packet, service, becomes);
}

/* The packet as its own answer, back where it came from: see `refuse`. */
static __always_inline int outside_answer(struct __sk_buff *skb, const struct packet *packet,
					  __u32 mtu)
{
	return refuse(skb, packet, mtu) ? TCX_DROP : (int)bpf_redirect(skb->ifindex, 0);
}

/* Writes the new tuple; answers what the hook shall tell the kernel. */
static __always_inline int outside_send(struct __sk_buff *skb, const struct packet *packet,
					const struct malla_flow_key *becomes,
					enum malla_verdict *verdict)
{
	struct way way;
	int found = way_find(skb, packet, becomes, &way);

	if (found == WAY_TOO_LONG) {
		*verdict = MALLA_VERDICT_TOO_LONG;
		return outside_answer(skb, packet, way.mtu);
	}
	if (found == WAY_NONE) {
		*verdict = MALLA_VERDICT_NO_WAY;
		return TCX_DROP;
	}
	if (found == WAY_ROUTE && way_age(skb, packet)) {
		*verdict = MALLA_VERDICT_EXPIRED;
		return outside_answer(skb, packet, REFUSE_EXPIRED);
	}
	if (translate(skb, packet, becomes)) {
		*verdict = MALLA_VERDICT_FAILED;
		return TCX_DROP;
	}
	return found == WAY_STACK ? TCX_NEXT : way_take(skb, packet, &way);
}

static __always_inline int outside_drop(struct packet *packet, enum malla_verdict verdict)
{
	count_verdict(packet->hook, verdict);
	tell_refused(packet, verdict);
	return TCX_DROP;
}

/* uplink is not there to look: whether the packet is one that it would have dropped as spoofed. All
 * else that it judges, to_pod does. */
static __always_inline int outside_is_forged(struct __sk_buff *skb, struct packet *packet)
{
	if (!spoof_opens(skb, packet))
		return 0;
	packet->hook = MALLA_HOOK_UPLINK;
	return 1;
}

static __always_inline int outside_meet(struct __sk_buff *skb, __u32 network)
{
	struct malla_flow_key becomes;
	struct packet packet = {.hook = MALLA_HOOK_OUTSIDE};
	enum malla_verdict verdict;
	int is_sealed = guard_unseal(skb, MALLA_HOOK_UPLINK);
	int is_idle = nat_is_idle();
	int answer;

	if ((is_sealed && is_idle) || packet_is_anothers(skb) ||
	    !outside_reads(skb, network, &packet))
		return TCX_NEXT;
	if (!is_sealed && outside_is_forged(skb, &packet))
		return guard_refuse(skb, &packet, MALLA_VERDICT_PASS);
	if (is_idle)
		return TCX_NEXT;
	verdict = outside_judge(&packet, &becomes);
	if (packet.is_icmp && !outside_refuses(verdict) &&
	    related(skb, &packet, 0) != MALLA_VERDICT_RELATED)
		verdict = MALLA_VERDICT_UNRELATED;
	switch (verdict) {
	case MALLA_VERDICT_PASS:
		return TCX_NEXT;
	case MALLA_VERDICT_TRANSLATED:
	case MALLA_VERDICT_TRANSLATED_BACK:
		answer = outside_send(skb, &packet, &becomes, &verdict);
		break;
	case MALLA_VERDICT_NO_ENDPOINT:
	case MALLA_VERDICT_NO_SOURCE:
		answer = outside_answer(skb, &packet, 0);
		break;
	default:
		answer = TCX_DROP;
	}
	count_verdict(MALLA_HOOK_OUTSIDE, verdict);
	if (outside_refuses(verdict))
		tell_refused(&packet, verdict);
	return answer;
}

SEC("tc")
int malla_outside(struct __sk_buff *skb)
{
	return outside_meet(skb, sizeof(struct ethhdr));
}

SEC("tc")
int malla_outside3(struct __sk_buff *skb)
{
	return outside_meet(skb, 0);
}

/*
 * tc ingress at a pod's interface, behind from_pod, whose guard it is: the answer of a pod to
 * somebody outside.
 */
SEC("tc")
int malla_back(struct __sk_buff *skb)
{
	enum malla_verdict verdict = MALLA_VERDICT_TRANSLATED_BACK;
	struct packet packet = {.hook = MALLA_HOOK_BACK};
	int is_sealed = guard_unseal(skb, MALLA_HOOK_FROM_POD);
	enum malla_verdict read;
	struct malla_snat *entry;
	struct malla_flow_key becomes;
	int answer;

	if (is_sealed && nat_is_idle())
		return TCX_NEXT;
	read = packet_read(skb, sizeof(struct ethhdr), &packet);
	if (!is_sealed) {
		packet.hook = MALLA_HOOK_FROM_POD;
		return guard_refuse(skb, &packet, read);
	}
	if (read != MALLA_VERDICT_PASS)
		return TCX_NEXT;
	entry = nat_find(&packet.flow, MALLA_NAT_OUT_OF_POD);
	if (!entry)
		return TCX_NEXT;
	if (packet.is_icmp && related(skb, &packet, 0) != MALLA_VERDICT_RELATED)
		return outside_drop(&packet, MALLA_VERDICT_UNRELATED);
	nat_note(entry, &packet);
	becomes = entry->becomes;
	answer = outside_send(skb, &packet, &becomes, &verdict);
	count_verdict(MALLA_HOOK_BACK, verdict);
	if (outside_refuses(verdict))
		tell_refused(&packet, verdict);
	return answer;
}

/* tc egress at an uplink: the answer of a server of this node's own. */
static __always_inline int leaving_meet(struct __sk_buff *skb, __u32 network)
{
	struct packet packet = {.hook = MALLA_HOOK_LEAVING};
	struct malla_snat *entry;
	struct malla_flow_key becomes;
	int failed;

	if (nat_is_idle() || packet_is_tagged(skb) || !outside_reads(skb, network, &packet))
		return TCX_NEXT;
	entry = nat_find(&packet.flow, MALLA_NAT_OUT_OF_NODE);
	if (!entry)
		return TCX_NEXT;
	nat_note(entry, &packet);
	becomes = entry->becomes;
	failed = translate(skb, &packet, &becomes) != 0;
	count_verdict(MALLA_HOOK_LEAVING,
		      failed ? MALLA_VERDICT_FAILED : MALLA_VERDICT_TRANSLATED_BACK);
	if (!failed)
		return TCX_NEXT;
	tell_refused(&packet, MALLA_VERDICT_FAILED);
	return TCX_DROP;
}

SEC("tc")
int malla_leaving(struct __sk_buff *skb)
{
	return leaving_meet(skb, sizeof(struct ethhdr));
}

SEC("tc")
int malla_leaving3(struct __sk_buff *skb)
{
	return leaving_meet(skb, 0);
}
