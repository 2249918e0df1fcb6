/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What from_pod and from_engine decide, and what they leave in the flow table. */
#include "test/cores.h"

SEC("tc")
int a_meshed_pods_connection_to_a_captured_service_is_recorded(struct __sk_buff *skb)
{
	static struct packet syn;
	const struct malla_flow *flow;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	flow = flow_of(&syn);
	EXPECT(flow && flow->kind == MALLA_FLOW_CAPTURED);
	EXPECT(flow->interfaces[0] == POD_INTERFACE);
	return 0;
}

/* SERVICE admits POD. A function of its own: the cores leave little of the stack. */
__attribute__((noinline)) int put_range(void)
{
	struct malla_end pod = end4(POD, 0);
	struct malla_range key = {.prefix_bits = 32 + 128, .service = 3, .address = pod.address};
	__u32 value = 1;

	return (int)bpf_map_update_elem(&malla_range, &key, &value, BPF_ANY);
}

SEC("tc")
int source_ranges_hold_for_what_is_captured_too(struct __sk_buff *skb)
{
	static struct packet syn;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED | MALLA_SERVICE_RANGED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_SOURCE_REFUSED);
	EXPECT(!flow_of(&syn));
	put_range();
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	return 0;
}

static __always_inline void put_exclusion(__u32 bits, __u16 port, __u32 address)
{
	struct malla_exclude key = {
	    .prefix_bits = 64 + bits, .endpoint = 1, .port_be = bpf_htons(port)};
	struct malla_end end = end4(address, 0);
	__u32 value = 1;

	if (bits)
		key.address = end.address;
	bpf_map_update_elem(&malla_exclude, &key, &value, BPF_ANY);
}

SEC("tc")
int what_a_pod_excludes_by_port_passes_the_engine(struct __sk_buff *skb)
{
	static struct packet syn;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_exclusion(0, 80, 0);
	put_pod(MALLA_POD_MESHED);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	syn.flow.source_port_be = bpf_htons(40001);
	put_pod(MALLA_POD_MESHED | MALLA_POD_EXCLUDES);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

SEC("tc")
int what_a_pod_excludes_by_block_passes_the_engine(struct __sk_buff *skb)
{
	static struct packet syn;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED | MALLA_POD_EXCLUDES);
	put_exclusion(0, 81, 0);
	put_exclusion(96 + 32, 0, SERVICE + 1);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	syn.flow.source_port_be = bpf_htons(40001);
	put_exclusion(96 + 8, 0, SERVICE);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

SEC("tc")
int every_later_packet_follows_the_verdict_of_the_syn(struct __sk_buff *skb)
{
	static struct packet syn, ack;
	struct malla_end service = end4(SERVICE, 80);

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	ack = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);

	/* The service was taken away. */
	bpf_map_delete_elem(&malla_service, &service);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PASS); /* a new connection */
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int without_an_engine_a_pod_that_fails_closed_is_refused(struct __sk_buff *skb)
{
	static struct packet syn, ack;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	ack = packet_between(end4(POD, 40001), end4(SERVICE, 80), TCP_ACK);
	put_setting(0);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED | MALLA_POD_FAILS_CLOSED);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_ENGINE_REFUSED);
	EXPECT(!flow_of(&syn));
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_NO_ENGINE);
	return 0;
}

SEC("tc")
int without_an_engine_a_pod_that_fails_open_gets_an_endpoint(struct __sk_buff *skb)
{
	static struct packet syn, sent, later;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	later = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	put_setting(0);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	sent = syn;
	EXPECT(pod_sends(skb, &sent, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	EXPECT(sent.flow.target_port_be == bpf_htons(8080));
	/* It stays with its endpoint when the engine is back. */
	put_setting(ENGINE_INTERFACE);
	EXPECT(pod_sends(skb, &later, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

SEC("tc")
int an_interface_that_is_gone_and_no_listener_are_no_engine(struct __sk_buff *skb)
{
	static struct packet syn;
	__u32 first = 0;

	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED | MALLA_POD_FAILS_CLOSED);
	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	put_engine(ENGINE_INTERFACE, 0);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_ENGINE_REFUSED);
	put_setting(0x7fffffff);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_ENGINE_REFUSED);
	put_setting(ENGINE_INTERFACE);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	syn.flow.source_port_be = bpf_htons(40001);
	bpf_map_delete_elem(&malla_listen, &first);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_ENGINE_REFUSED);
	return 0;
}

SEC("tc")
int a_stray_packet_to_a_captured_service_never_passes_the_engine(struct __sk_buff *skb)
{
	static struct packet ack;

	ack = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_STRAY_TO_ENGINE);
	return 0;
}

SEC("tc")
int another_pods_address_is_not_believed(struct __sk_buff *skb)
{
	static struct packet syn, ack;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	ack = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(pod_sends(skb, &syn, OTHER_INTERFACE) == MALLA_VERDICT_SPOOFED);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	EXPECT(pod_sends(skb, &ack, OTHER_INTERFACE) == MALLA_VERDICT_SPOOFED);
	return 0;
}

SEC("tc")
int a_pod_outside_of_the_mesh_gets_an_endpoint_without_the_engine(struct __sk_buff *skb)
{
	static struct packet syn, answer, sent;
	const struct malla_flow *flow;

	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	answer = packet_between(end4(SERVER, 8080), end4(POD, 40000), TCP_ACK);
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(0);
	sent = syn;
	EXPECT(pod_sends(skb, &sent, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	flow = flow_of(&syn);
	EXPECT(flow && flow->other.port_be == bpf_htons(8080));
	EXPECT(sent.flow.target_port_be == bpf_htons(8080));
	EXPECT(stack_sends(skb, &answer) == MALLA_VERDICT_TRANSLATED_BACK);
	return 0;
}

SEC("tc")
int answers_to_what_the_engine_dialled_are_the_engines(struct __sk_buff *skb)
{
	static struct packet syn, answer;
	struct ends ends = {.source = POD_INTERFACE};

	syn = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_SYN);
	answer = packet_between(end4(SERVER, 8080), end4(POD, 61000), TCP_ACK);
	put_setting(ENGINE_INTERFACE);
	put_pod(MALLA_POD_MESHED);
	put_far(SERVER, 0);
	EXPECT(fabric_sends(skb, &answer) == MALLA_VERDICT_PASS);
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_PASS);
	EXPECT(fabric_sends(skb, &answer) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(stack_sends(skb, &answer) == MALLA_VERDICT_TO_ENGINE);
	put_server(0);
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_PASS);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(fabric_sends(skb, &answer) == MALLA_VERDICT_SPOOFED);
	return 0;
}

SEC("tc")
int both_entries_of_a_flow_to_a_service_say_how_it_stands(struct __sk_buff *skb)
{
	static struct packet packet;
	struct malla_flow *flow;

	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	put_setting(0);
	put_service(0, 1);
	put_pod(0);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), 0);
	flow = flow_of(&packet);
	EXPECT(flow && flow->state == MALLA_FLOW_OPENING);
	packet = packet_between(end4(SERVER, 8080), end4(POD, 40000), TCP_SYN | TCP_ACK);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_TRANSLATED_BACK);
	EXPECT(flow->state == MALLA_FLOW_OPENING);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	/* Neither silence of more than a minute nor a flood of its pod's takes it. */
	EXPECT(flow->state == MALLA_FLOW_OPEN && flow->timeout_ticks == FLOW_TCP_OPEN);
	EXPECT(share_is_in_use(flow, flow->seen_ticks));
	packet = packet_between(end4(SERVER, 8080), end4(POD, 40000), TCP_RST);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_TRANSLATED_BACK);
	EXPECT(flow->state == MALLA_FLOW_CLOSED);
	return 0;
}

SEC("tc")
int a_connection_to_a_service_is_reset_once_its_endpoints_pod_is_gone(struct __sk_buff *skb)
{
	static struct packet packet;
	struct malla_flow *flow;

	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	put_setting(0);
	put_service(0, 1);
	put_pod(0);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	flow = flow_of(&packet);
	EXPECT(flow);
	flow->flags |= MALLA_FLOW_CUT; /* as BPFLoader does */
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_NO_ENDPOINT);
	EXPECT(refuse_answers(&packet, MALLA_VERDICT_NO_ENDPOINT));
	/* The answer's source is whom the client dialled. */
	EXPECT(packet.flow.target_port_be == bpf_htons(80));
	EXPECT(flow->state == MALLA_FLOW_CLOSED);
	/* Dialled again from the same port. */
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

/* A function of its own: the cores leave little of the stack. */
__attribute__((noinline)) int put_datagram_service(void)
{
	struct malla_end dialled = end4(SERVICE, 80);
	struct malla_end endpoint = end4(SERVER, 8080);
	struct malla_service service = {.inside = {.id = 3, .endpoints = 1}};
	struct malla_endpoint_key slot = {.group = 3};

	dialled.protocol = endpoint.protocol = IPPROTO_UDP;
	bpf_map_update_elem(&malla_endpoint, &slot, &endpoint, BPF_ANY);
	return (int)bpf_map_update_elem(&malla_service, &dialled, &service, BPF_ANY);
}

SEC("tc")
int datagrams_to_a_service_are_kept_as_long_as_answered_ones(struct __sk_buff *skb)
{
	static struct packet packet;
	struct malla_flow *flow;

	put_setting(0);
	put_pod(0);
	put_datagram_service();
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), 0);
	packet.flow.protocol = IPPROTO_UDP;
	flow = flow_of(&packet);
	EXPECT(!flow);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	packet = packet_between(end4(SERVER, 8080), end4(POD, 40000), 0);
	packet.flow.protocol = IPPROTO_UDP;
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_TRANSLATED_BACK);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), 0);
	packet.flow.protocol = IPPROTO_UDP;
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), 0);
	packet.flow.protocol = IPPROTO_UDP;
	flow = flow_of(&packet);
	EXPECT(flow && flow->state == MALLA_FLOW_OPEN && flow->timeout_ticks == FLOW_OPEN);
	return 0;
}

/* Its entry made room, perhaps, or the table was flushed. */
SEC("tc")
int the_end_of_a_connection_that_nothing_knows_is_not_kept_as_an_open_one(struct __sk_buff *skb)
{
	static struct packet packet;
	const struct malla_flow *flow;

	put_setting(0);
	put_pod(0);
	packet = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	flow = flow_of(&packet);
	EXPECT(flow && flow->state == MALLA_FLOW_OPEN && flow->timeout_ticks == FLOW_TCP_OPEN);
	packet = packet_between(end4(POD, 40001), end4(SERVER, 8080), TCP_FIN | TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	flow = flow_of(&packet);
	EXPECT(flow && flow->state == MALLA_FLOW_CLOSING &&
	       flow->timeout_ticks == FLOW_TCP_CLOSING);
	packet = packet_between(end4(POD, 40002), end4(SERVER, 8080), TCP_RST);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	flow = flow_of(&packet);
	EXPECT(flow && flow->state == MALLA_FLOW_CLOSED && flow->timeout_ticks == FLOW_TCP_CLOSED);
	return 0;
}

SEC("tc")
int the_engine_answers_a_pod_where_it_is_now(struct __sk_buff *skb)
{
	static struct packet packet;
	struct ends ends = {};

	put_generation(1, 0);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	packet = packet_between(end4(SERVICE, 80), end4(POD, 40000), TCP_ACK);
	EXPECT(engine_sends(&packet, &ends) == MALLA_VERDICT_PASS);
	EXPECT(!ends.source && ends.target == POD_INTERFACE);
	/* The pod's interface was made anew. */
	put_selected(POD, OTHER_INTERFACE, 1, 0);
	put_generation(2, 0);
	ends.target = 0;
	EXPECT(engine_sends(&packet, &ends) == MALLA_VERDICT_PASS);
	EXPECT(ends.target == OTHER_INTERFACE);
	ends.target = 0;
	EXPECT(engine_sends(&packet, &ends) == MALLA_VERDICT_PASS);
	EXPECT(ends.target == OTHER_INTERFACE);
	return 0;
}

SEC("tc")
int the_engine_speaks_for_pods_of_the_node_only(struct __sk_buff *skb)
{
	static struct packet packet;
	struct ends ends = {};

	(void)skb;
	put_setting(ENGINE_INTERFACE);
	packet = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(engine_sends(&packet, &ends) == MALLA_VERDICT_FOREIGN);
	EXPECT(!flow_of(&packet));
	put_pod(MALLA_POD_MESHED);
	EXPECT(engine_sends(&packet, &ends) == MALLA_VERDICT_PASS);
	EXPECT(ends.source == POD_INTERFACE && !ends.target);
	return 0;
}

SEC("tc")
int the_engine_puts_back_an_entry_that_the_table_lost(struct __sk_buff *skb)
{
	static struct packet push, answer, reset, late;
	struct ends ends = {.source = POD_INTERFACE};

	push = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_ACK);
	answer = packet_between(end4(SERVER, 8080), end4(POD, 61000), TCP_ACK);
	reset = packet_between(end4(POD, 61001), end4(SERVER, 8080), TCP_RST);
	late = packet_between(end4(SERVER, 8080), end4(POD, 61001), TCP_ACK);
	put_setting(ENGINE_INTERFACE);
	put_pod(MALLA_POD_MESHED);
	put_far(SERVER, 0);
	EXPECT(engine_sends(&push, &ends) == MALLA_VERDICT_PASS);
	EXPECT(fabric_sends(skb, &answer) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(engine_sends(&reset, &ends) == MALLA_VERDICT_PASS);
	EXPECT(fabric_sends(skb, &late) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int one_tuple_is_never_both_the_pods_and_the_engines(struct __sk_buff *skb)
{
	static struct packet first, second;
	struct ends ends = {.source = POD_INTERFACE};

	first = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_SYN);
	second = packet_between(end4(POD, 61001), end4(SERVER, 8080), TCP_SYN);
	put_setting(ENGINE_INTERFACE);
	put_pod(MALLA_POD_MESHED);
	EXPECT(engine_sends(&first, &ends) == MALLA_VERDICT_PASS);
	EXPECT(pod_sends(skb, &first, POD_INTERFACE) == MALLA_VERDICT_POD_MET_ENGINE);
	EXPECT(fabric_sends(skb, &first) == MALLA_VERDICT_UPLINK_MET_ENGINE);

	EXPECT(pod_sends(skb, &second, POD_INTERFACE) == MALLA_VERDICT_PASS);
	EXPECT(engine_sends(&second, &ends) == MALLA_VERDICT_ENGINE_MET_POD);
	return 0;
}

SEC("tc")
int what_the_engine_sent_up_the_stack_as_the_pod_is_let_through_once(struct __sk_buff *skb)
{
	static struct packet packet;
	struct from_pod way = {.skb = skb, .interface = POD_INTERFACE};

	skb->mark = MALLA_MARK_RETURNED;
	EXPECT(from_pod_meet(skb, &packet, &way) == MALLA_VERDICT_RETURNED);
	EXPECT(!skb->mark);
	return 0;
}

/* A SYN with only a greatest segment of 1460 bytes among its options, where IPv4 has it. */
static __always_inline long write_syn(struct __sk_buff *skb, __u16 fragments)
{
	__u8 options[4] = {2, 4, 1460 >> 8, 1460 & 0xff};
	__u16 fragments_be = bpf_htons(fragments);
	__u8 offset = 6 << 4;

	return bpf_skb_store_bytes(skb, 14 + 6, &fragments_be, sizeof(fragments_be), 0) ||
	       bpf_skb_store_bytes(skb, 34 + 12, &offset, sizeof(offset), 0) ||
	       bpf_skb_store_bytes(skb, 34 + 20, options, sizeof(options), 0);
}

static __always_inline __u16 segment_of(struct __sk_buff *skb)
{
	__u16 segment_be = 0;

	bpf_skb_load_bytes(skb, 34 + 22, &segment_be, sizeof(segment_be));
	return bpf_ntohs(segment_be);
}

SEC("tc")
int a_syn_asks_for_no_more_than_the_way_back_takes(struct __sk_buff *skb)
{
	static struct packet syn;
	__u16 sum_be = 0;

	syn = packet_between(end4(SERVER, 40000), end4(POD, 8080), TCP_SYN);
	syn.network = 14;
	syn.transport = 34;
	EXPECT(!write_syn(skb, 0x4000));
	clamp(skb, &syn, 1500);
	EXPECT(segment_of(skb) == 1460);
	clamp(skb, &syn, 0);
	EXPECT(segment_of(skb) == 1460);
	clamp(skb, &syn, 1400);
	EXPECT(segment_of(skb) == 1360);
	/* RFC 1624: by how much less, added to a sum that was zero. */
	bpf_skb_load_bytes(skb, 34 + 16, &sum_be, sizeof(sum_be));
	EXPECT(bpf_ntohs(sum_be) == 100);
	return 0;
}

SEC("tc")
int what_routers_may_cut_is_left_to_the_stack(struct __sk_buff *skb)
{
	static struct packet syn;

	syn = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	syn.network = 14;
	EXPECT(!write_syn(skb, 0));
	EXPECT(far_may_be_cut(skb, &syn));
	EXPECT(!write_syn(skb, 0x4000));
	EXPECT(!far_may_be_cut(skb, &syn));
	return 0;
}

SEC("tc")
int a_frame_of_a_vlan_is_for_the_device_of_that_vlan(struct __sk_buff *skb)
{
	EXPECT(!packet_is_anothers(skb));
	EXPECT(!bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 100));
	EXPECT(packet_is_anothers(skb));
	EXPECT(from_fabric_meet(skb, sizeof(struct ethhdr)) == TCX_NEXT);
	EXPECT(!bpf_skb_vlan_pop(skb));
	/* Of no VLAN, but with a priority. */
	EXPECT(!bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), 5 << 13));
	EXPECT(!packet_is_anothers(skb));
	EXPECT(!bpf_skb_change_type(skb, 3));
	EXPECT(packet_is_anothers(skb));
	return 0;
}

#define TWIN 0x0a600002 /* 10.96.0.2 */

/* From POD:40000. Functions of their own, as the cores are: they would take the stack. */
__attribute__((noinline)) int dial(struct packet *packet, __u32 target, __u32 port, __u32 flags)
{
	if (!packet)
		return 0;
	*packet = packet_between(end4(POD, 40000), end4(target, (__u16)port), (__u8)flags);
	return 0;
}

__attribute__((noinline)) int put_twins(void)
{
	struct malla_end twin = end4(TWIN, 80);
	struct malla_service service = {.inside = {.id = 3, .endpoints = 1}};

	put_setting(0);
	put_service(0, 1);
	bpf_map_update_elem(&malla_service, &twin, &service, BPF_ANY);
	put_pod(0);
	put_server(0);
	return 0;
}

__attribute__((noinline)) int close_flow(const struct packet *packet)
{
	struct malla_flow *flow = packet ? flow_of(packet) : 0;

	if (flow)
		flow->state = MALLA_FLOW_CLOSED;
	return flow != 0;
}

SEC("tc")
int two_services_of_one_endpoint_never_share_a_flow(struct __sk_buff *skb)
{
	static struct packet first, packet;

	put_twins();
	dial(&first, SERVICE, 80, TCP_SYN);
	EXPECT(pod_sends(skb, &first, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	dial(&packet, TWIN, 80, TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_SNAT_PORTS);
	EXPECT(packet.flow.target.words_be[3] == bpf_htonl(TWIN)); /* who is to refuse it */
	dial(&packet, SERVER, 8080, TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_SNAT_PORTS);
	/* The first goes on, and gives way when it is over. */
	dial(&packet, SERVICE, 80, TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	EXPECT(close_flow(&first));
	dial(&packet, TWIN, 80, TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

SEC("tc")
int who_dials_an_endpoint_after_its_service_from_one_port_is_answered_by_the_endpoint(
    struct __sk_buff *skb)
{
	static struct packet first, packet;

	put_twins();
	dial(&first, SERVICE, 80, TCP_SYN);
	EXPECT(pod_sends(skb, &first, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	EXPECT(close_flow(&first));
	dial(&packet, SERVER, 8080, TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	packet = packet_between(end4(SERVER, 8080), end4(POD, 40000), TCP_SYN | TCP_ACK);
	EXPECT(pod_sends(skb, &packet, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}
