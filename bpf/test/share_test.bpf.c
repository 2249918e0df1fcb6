/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What an endpoint may hold of the flow table, and how long a flow is kept. */
#include "test/cores.h"

#define QUOTA 8

/* Opens and, where `is_open`, establishes the pod's connection from `port`. */
__attribute__((noinline)) int connect_from(struct __sk_buff *skb, __u16 port, int is_open)
{
	static struct packet packet;

	packet = packet_between(end4(POD, port), end4(SERVER, 80), TCP_SYN);
	if (pod_sends(skb, &packet, POD_INTERFACE) != MALLA_VERDICT_PASS)
		return 0;
	if (!is_open)
		return 1;
	packet = packet_between(end4(SERVER, 80), end4(POD, port), TCP_SYN | TCP_ACK);
	stack_sends(skb, &packet);
	packet = packet_between(end4(POD, port), end4(SERVER, 80), TCP_ACK);
	return pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS;
}

static __attribute__((noinline)) struct malla_flow *flow_from(__u16 port)
{
	static struct packet packet;

	packet = packet_between(end4(POD, port), end4(SERVER, 80), TCP_ACK);
	return flow_of(&packet);
}

static __always_inline __u64 evicted(__u32 endpoint)
{
	struct malla_share *share = bpf_map_lookup_elem(&malla_share, &endpoint);

	return share ? share->evicted : 0;
}

static __always_inline __u64 held(__u32 endpoint)
{
	struct malla_share *share = bpf_map_lookup_elem(&malla_share, &endpoint);

	return share ? share->opened - share->closed : 0;
}

/* As far as another processor is before it enters the flow of the pod's SYN from `port`. */
__attribute__((noinline)) int admits_from(__u16 port)
{
	static struct packet packet;
	struct sight sight;

	packet = packet_between(end4(POD, port), end4(SERVER, 80), TCP_SYN);
	flow_see(&packet.flow, &sight);
	return share_admit(&sight.key, 1);
}

/* Takes the flow out as one that was over. */
__attribute__((noinline)) int ends_from(__u16 port)
{
	static struct packet packet;
	struct sight sight;

	packet = packet_between(end4(POD, port), end4(SERVER, 80), TCP_SYN);
	flow_see(&packet.flow, &sight);
	if (bpf_map_delete_elem(&malla_flow, &sight.key))
		return 0;
	share_give_back(1);
	return 1;
}

static __always_inline void put_small_pod(void)
{
	put_setting(ENGINE_INTERFACE);
	put_pod(0);
	put_quota(1, QUOTA);
}

SEC("tc")
int a_pod_below_its_quota_loses_nothing(struct __sk_buff *skb)
{
	put_small_pod();
	for (__u16 port = 40000; port < 40000 + QUOTA; port++)
		EXPECT(connect_from(skb, port, 0));
	EXPECT(!evicted(1));
	EXPECT(flow_from(40000) && flow_from(40000 + QUOTA - 1));
	return 0;
}

SEC("tc")
int a_flood_takes_its_own_unanswered_flows_first(struct __sk_buff *skb)
{
	put_small_pod();
	EXPECT(connect_from(skb, 50000, 1));
	for (__u16 port = 40000; port < 40000 + 3 * QUOTA; port++)
		EXPECT(connect_from(skb, port, 0));
	EXPECT(evicted(1) == 2 * QUOTA + 1);
	EXPECT(flow_from(50000)); /* in use */
	EXPECT(!flow_from(40000));
	EXPECT(flow_from(40000 + 3 * QUOTA - 1));
	return 0;
}

/* What a pod opens at once and keeps stands in a row. */
SEC("tc")
int a_flood_takes_none_of_many_in_a_row_that_are_in_use(struct __sk_buff *skb)
{
	put_small_pod();
	put_quota(1, 64);
	for (__u16 port = 50000; port < 50000 + 40; port++)
		EXPECT(connect_from(skb, port, 1));
	for (__u16 port = 40000; port < 40000 + 200; port++)
		EXPECT(connect_from(skb, port, 0));
	EXPECT(evicted(1) == 240 - 64);
	for (__u16 port = 50000; port < 50000 + 40; port++)
		EXPECT(flow_from(port));
	return 0;
}

SEC("tc")
int where_all_are_in_use_the_oldest_makes_room(struct __sk_buff *skb)
{
	put_small_pod();
	for (__u16 port = 40000; port < 40000 + QUOTA; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(connect_from(skb, 50000, 1));
	EXPECT(evicted(1) == 1);
	EXPECT(!flow_from(40000) && flow_from(40001) && flow_from(50000));
	EXPECT(connect_from(skb, 50001, 1));
	EXPECT(!flow_from(40001) && flow_from(40002) && flow_from(50000) && flow_from(50001));
	return 0;
}

SEC("tc")
int where_all_are_in_use_the_oldest_go_one_after_another(struct __sk_buff *skb)
{
	put_small_pod();
	put_quota(1, 200);
	for (__u16 port = 40000; port < 40000 + 200; port++)
		EXPECT(connect_from(skb, port, 1));
	for (__u16 port = 50000; port < 50000 + 10; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(evicted(1) == 10);
	for (__u16 port = 40000; port < 40000 + 10; port++)
		EXPECT(!flow_from(port));
	for (__u16 port = 40000 + 10; port < 40000 + 200; port++)
		EXPECT(flow_from(port));
	for (__u16 port = 50000; port < 50000 + 10; port++)
		EXPECT(flow_from(port));
	return 0;
}

/* Below the quota, sixteen in a row that are in use leave the next without a place. */
SEC("tc")
int what_has_no_place_does_not_widen_the_quota(struct __sk_buff *skb)
{
	put_small_pod();
	put_quota(1, 64);
	for (__u16 port = 40000; port < 40000 + 64; port++)
		EXPECT(connect_from(skb, port, 1));
	for (__u16 port = 40000 + 16; port < 40000 + 64; port++)
		EXPECT(ends_from(port));
	for (__u16 port = 50000; port < 50000 + 48; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(held(1) == 64 && !evicted(1));
	/* The first of these has none; the hand meets the place left empty, then the oldest. */
	for (__u16 port = 60000; port < 60000 + 5; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(held(1) == 64 && evicted(1) == 5);
	for (__u16 port = 40000; port < 40000 + 5; port++)
		EXPECT(!flow_from(port));
	for (__u16 port = 40000 + 5; port < 40000 + 16; port++)
		EXPECT(flow_from(port));
	for (__u16 port = 50000; port < 50000 + 48; port++)
		EXPECT(flow_from(port));
	for (__u16 port = 60000; port < 60000 + 5; port++)
		EXPECT(flow_from(port));
	return 0;
}

SEC("tc")
int what_another_processor_is_about_to_enter_keeps_its_room(struct __sk_buff *skb)
{
	put_small_pod();
	for (__u16 port = 40000; port < 40000 + QUOTA - 1; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(admits_from(50000));
	for (__u16 port = 60000; port < 60000 + 2 * QUOTA; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(held(1) == QUOTA && evicted(1) == 2 * QUOTA);
	return 0;
}

SEC("tc")
int a_pod_with_nothing_to_evict_at_its_quota_opens_nothing(struct __sk_buff *skb)
{
	static struct packet syn;

	put_small_pod();
	for (__u16 port = 40000; port < 40000 + QUOTA; port++)
		EXPECT(admits_from(port));
	syn = packet_between(end4(POD, 50000), end4(SERVER, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_FLOW_REFUSED);
	EXPECT(held(1) == QUOTA && !evicted(1));
	return 0;
}

/* Flows that an older agent's programs opened, and the loader has copied: in no ring. */
SEC("tc")
int a_pod_whose_quota_was_full_at_an_upgrade_opens_others(struct __sk_buff *skb)
{
	struct malla_quota quota = {.collected = -(__u64)QUOTA, .flows = QUOTA};
	__u32 endpoint = 1;

	put_small_pod();
	EXPECT(!bpf_map_update_elem(&malla_quota, &endpoint, &quota, BPF_ANY));
	for (__u16 port = 40000; port < 40000 + QUOTA; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(held(1) == QUOTA && !evicted(1));
	for (__u16 port = 50000; port < 50000 + QUOTA; port++)
		EXPECT(connect_from(skb, port, 1));
	EXPECT(held(1) == QUOTA && evicted(1) == QUOTA);
	return 0;
}

/* Opens the flow of `packet` as one that had found nothing of it in the table. 0: refused. */
static __always_inline int opens_unseen(struct sight *sight, const struct packet *packet)
{
	struct malla_flow *flow = flow_blank(MALLA_FLOW_OWN);

	if (!flow)
		return 0;
	flow_see(&packet->flow, sight);
	sight->flow = 0;
	sight->exists = 0;
	flow->owner = 1;
	return flow_open(sight, packet, flow, 0);
}

__attribute__((noinline)) int enters_from(__u16 port)
{
	static struct packet syn;
	struct sight sight;

	syn = packet_between(end4(POD, port), end4(SERVER, 80), TCP_SYN);
	return opens_unseen(&sight, &syn);
}

/* 1: the packet is of the flow's other direction. */
__attribute__((noinline)) int is_back_unseen(__u16 port, __u8 flags)
{
	static struct packet packet;
	struct sight sight;

	packet = packet_between(end4(SERVER, 80), end4(POD, port), flags);
	return opens_unseen(&sight, &packet) && sight.is_back == 1;
}

/* Two processors carry its first packets at once. */
SEC("tc")
int a_flow_that_is_entered_twice_counts_once(struct __sk_buff *skb)
{
	struct malla_flow *flow;

	put_small_pod();
	EXPECT(connect_from(skb, 40000, 1));
	EXPECT(enters_from(40000));
	EXPECT(held(1) == 1);
	/* What was learnt of it meanwhile stays. */
	flow = flow_from(40000);
	EXPECT(flow && flow->state == MALLA_FLOW_OPEN);
	EXPECT(flow->packets[0] == 3 && flow->packets[1] == 1);
	return 0;
}

SEC("tc")
int a_flow_that_both_ends_open_at_once_has_one_direction(struct __sk_buff *skb)
{
	struct malla_flow *flow;

	put_small_pod();
	EXPECT(connect_from(skb, 40000, 1));
	EXPECT(is_back_unseen(40000, TCP_ACK));
	EXPECT(held(1) == 1);
	flow = flow_from(40000);
	EXPECT(flow && flow->packets[0] == 2 && flow->packets[1] == 2);
	return 0;
}

SEC("tc")
int a_reset_that_meets_its_flow_being_entered_closes_it(struct __sk_buff *skb)
{
	struct malla_flow *flow;

	put_small_pod();
	EXPECT(connect_from(skb, 40000, 1));
	EXPECT(is_back_unseen(40000, TCP_RST));
	flow = flow_from(40000);
	EXPECT(flow && flow->state == MALLA_FLOW_CLOSED);
	return 0;
}

SEC("tc")
int a_flow_that_is_entered_meanwhile_needs_no_room(struct __sk_buff *skb)
{
	put_small_pod();
	EXPECT(connect_from(skb, 40000, 1));
	put_quota(1, 0);
	EXPECT(enters_from(40000));
	EXPECT(!enters_from(40001));
	EXPECT(held(1) == 1);
	return 0;
}

SEC("tc")
int a_flood_takes_nothing_of_another_pod(struct __sk_buff *skb)
{
	static struct packet syn;

	put_small_pod();
	put_server(0);
	syn = packet_between(end4(SERVER, 40000), end4(0x08080808, 53), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, OTHER_INTERFACE) == MALLA_VERDICT_PASS);
	syn = packet_between(end4(POD, 1), end4(0x08080808, 53), TCP_SYN);
	for (__u16 port = 40000; port < 40000 + 4 * QUOTA; port++) {
		syn.flow.source_port_be = bpf_htons(port);
		EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PASS);
	}
	EXPECT(evicted(1) == 3 * QUOTA && !evicted(2));
	syn = packet_between(end4(SERVER, 40000), end4(0x08080808, 53), TCP_SYN);
	EXPECT(flow_of(&syn));
	return 0;
}

/* A function of its own: two rows would not fit the stack. */
__attribute__((noinline)) int put_pod6(__u32 last, __u32 interface, __u32 endpoint)
{
	struct malla_end pod = end6(last, 0);
	struct malla_pod value = {.interface = interface, .endpoint = endpoint};

	return (int)bpf_map_update_elem(&malla_pod, &pod.address, &value, BPF_ANY);
}

/* What the pod of that address sends to the world, as above. */
__attribute__((noinline)) int opens6(struct packet *packet, __u32 last, __u8 protocol)
{
	if (!packet)
		return 0;
	*packet = packet_between(end6(last, 40000), end6(0x08080808, 53), TCP_SYN);
	packet->flow.protocol = protocol;
	if (protocol != IPPROTO_TCP)
		packet->flags = 0;
	return 1;
}

/* The two families of a pod share its quota. */
SEC("tc")
int a_flood_by_ipv6_takes_nothing_of_another_pod(struct __sk_buff *skb)
{
	static struct packet own, flood;

	put_small_pod();
	EXPECT(connect_from(skb, 50000, 0));
	put_server(0);
	put_pod6(POD, POD_INTERFACE, 1);
	put_pod6(SERVER, OTHER_INTERFACE, 2);
	EXPECT(opens6(&own, SERVER, IPPROTO_TCP));
	EXPECT(pod_sends(skb, &own, OTHER_INTERFACE) == MALLA_VERDICT_PASS);
	EXPECT(opens6(&flood, POD, IPPROTO_UDP));
	for (__u16 port = 40000; port < 40000 + 4 * QUOTA; port++) {
		flood.flow.source_port_be = bpf_htons(port);
		EXPECT(pod_sends(skb, &flood, POD_INTERFACE) == MALLA_VERDICT_PASS);
	}
	EXPECT(evicted(1) == 3 * QUOTA + 1 && !evicted(2));
	EXPECT(!flow_from(50000));
	EXPECT(flow_of(&own));
	return 0;
}

SEC("tc")
int a_pod_without_a_quota_opens_nothing(struct __sk_buff *skb)
{
	static struct packet syn;

	put_small_pod();
	put_quota(1, 0);
	syn = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_FLOW_REFUSED);
	return 0;
}

SEC("tc")
int each_state_of_tcp_has_its_time(struct __sk_buff *skb)
{
	static struct packet packet;
	struct malla_flow *flow;

	put_small_pod();
	EXPECT(connect_from(skb, 40000, 0));
	flow = flow_from(40000);
	EXPECT(flow && flow->state == MALLA_FLOW_OPENING);
	EXPECT(flow->timeout_ticks == FLOW_TCP_OPENING);
	EXPECT(connect_from(skb, 40000, 1));
	flow = flow_from(40000);
	EXPECT(flow && flow->state == MALLA_FLOW_OPEN && flow->timeout_ticks == FLOW_TCP_OPEN);
	EXPECT(flow->packets[0] == 2 && flow->packets[1] == 1);

	packet = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_FIN | TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	EXPECT(flow->state == MALLA_FLOW_CLOSING && flow->timeout_ticks == FLOW_TCP_CLOSING);
	packet = packet_between(end4(SERVER, 80), end4(POD, 40000), TCP_FIN | TCP_ACK);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_PASS);
	EXPECT(flow->state == MALLA_FLOW_CLOSED && flow->timeout_ticks == FLOW_TCP_CLOSED);
	return 0;
}

SEC("tc")
int a_reset_closes_a_flow(struct __sk_buff *skb)
{
	static struct packet packet;
	struct malla_flow *flow;

	put_small_pod();
	EXPECT(connect_from(skb, 40000, 1));
	packet = packet_between(end4(SERVER, 80), end4(POD, 40000), TCP_RST);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_PASS);
	flow = flow_from(40000);
	EXPECT(flow && flow->state == MALLA_FLOW_CLOSED);
	return 0;
}

SEC("tc")
int a_flow_that_is_over_is_judged_anew(struct __sk_buff *skb)
{
	static struct packet packet;
	struct malla_flow *flow;

	put_small_pod();
	packet = packet_between(end4(POD, 40000), end4(SERVER, 53), 0);
	packet.flow.protocol = IPPROTO_UDP;
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	flow = flow_of(&packet);
	EXPECT(flow && flow->timeout_ticks == FLOW_OPENING);
	flow->seen_ticks -= FLOW_OPENING + 1;
	EXPECT(!flow_of(&packet));
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	flow = flow_of(&packet);
	EXPECT(flow && flow->packets[0] == 1);
	return 0;
}
