/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Connections towards pods that need the engine, from each place where they are met. */
#include "test/cores.h"

#define CLIENT 0xc6336401 /* 198.51.100.1, of the world */

/* A node whose engine serves, HBONE too, with SERVER as a pod of these flags. */
static __always_inline void put_inbound(__u32 flags)
{
	put_generation(1, MALLA_SETTING_HBONE);
	put_server(flags);
	put_quota(0, 64);
}

SEC("tc")
int a_connection_to_a_pod_that_needs_the_engine_is_captured_wherever_it_comes_from(
    struct __sk_buff *skb)
{
	static struct packet syn, ack;
	const struct malla_flow *flow;

	put_pod(0);
	put_inbound(MALLA_POD_INBOUND);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	ack = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_ACK);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	flow = flow_of(&syn);
	EXPECT(flow && flow->kind == MALLA_FLOW_CAPTURED && flow->owner == 2);
	EXPECT(fabric_sends(skb, &ack) == MALLA_VERDICT_TO_ENGINE);
	syn.flow.source_port_be = bpf_htons(40001);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	syn = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	return 0;
}

SEC("tc")
int a_pod_that_does_not_need_the_engine_is_left_alone(struct __sk_buff *skb)
{
	static struct packet syn;

	put_pod(0);
	put_inbound(0);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_PASS);
	syn = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

static __always_inline void put_kept(__u32 bits, __u16 port, __u32 address, __u32 value)
{
	struct malla_exclude key = {
	    .prefix_bits = 64 + bits, .endpoint = 2, .port_be = bpf_htons(port), .is_inbound = 1};
	struct malla_end end = end4(address, 0);

	if (bits)
		key.address = end.address;
	bpf_map_update_elem(&malla_exclude, &key, &value, BPF_ANY);
}

SEC("tc")
int ports_and_clients_that_the_pod_excludes_pass_the_engine(struct __sk_buff *skb)
{
	static struct packet syn;

	put_inbound(MALLA_POD_INBOUND | MALLA_POD_EXCLUDES_INBOUND | MALLA_POD_MESHED);
	put_kept(0, 8081, 0, MALLA_EXCLUDE_ANY);
	put_kept(96 + 24, 0, CLIENT & 0xffffff00, MALLA_EXCLUDE_ANY);
	syn = packet_between(end4(CLIENT + 256, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	syn.flow.target_port_be = bpf_htons(8081);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_PASS);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	/* Where nodes meet is no port of the pod's own. */
	syn.flow.target_port_be = bpf_htons(MALLA_HBONE_PORT);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	return 0;
}

SEC("tc")
int a_short_block_excludes_its_own_family_only(struct __sk_buff *skb)
{
	static struct packet syn;

	put_inbound(MALLA_POD_INBOUND | MALLA_POD_EXCLUDES_INBOUND);
	put_kept(0, 0, 0, MALLA_EXCLUDE_IP6);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	put_kept(0, 0, 0, MALLA_EXCLUDE_ANY);
	syn.flow.source_port_be = bpf_htons(40001);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int the_nodes_port_is_captured_for_pods_in_the_mesh_while_it_is_served(struct __sk_buff *skb)
{
	static struct packet syn;

	put_inbound(MALLA_POD_MESHED);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	syn.flow.source_port_be = bpf_htons(40001);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	syn.flow.target_port_be = bpf_htons(MALLA_HBONE_PORT + 1);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);

	put_generation(1, 0);
	syn = packet_between(end4(CLIENT, 40002), end4(SERVER, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int policies_are_asked_about_plain_connections_and_not_about_the_nodes_port(struct __sk_buff *skb)
{
	static struct packet plain, tunnel, ack;
	struct malla_end server = end4(SERVER, 0);
	struct malla_pod value = {
	    .interface = OTHER_INTERFACE,
	    .endpoint = 2,
	    .set = 1,
	    .flags = MALLA_POD_MESHED | MALLA_POD_INBOUND,
	};

	put_inbound(0);
	bpf_map_update_elem(&malla_pod, &server.address, &value, BPF_ANY);
	put_set(1, 0);
	plain = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	ack = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_ACK);
	tunnel = packet_between(end4(CLIENT, 40001), end4(SERVER, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(fabric_sends(skb, &plain) == MALLA_VERDICT_DENIED_INGRESS);
	EXPECT(fabric_sends(skb, &tunnel) == MALLA_VERDICT_CAPTURED);

	put_policy(MALLA_IDENTITY_WORLD, MALLA_INGRESS, 8080, MALLA_POLICY_EXACT_BITS,
		   MALLA_POLICY_ALLOW);
	EXPECT(fabric_sends(skb, &plain) == MALLA_VERDICT_CAPTURED);
	EXPECT(fabric_sends(skb, &ack) == MALLA_VERDICT_TO_ENGINE);
	/* What is open is cut when it is not allowed any more. */
	put_policy(MALLA_IDENTITY_WORLD, MALLA_INGRESS, 8080, MALLA_POLICY_EXACT_BITS,
		   MALLA_POLICY_DENY);
	put_generation(2, MALLA_SETTING_HBONE);
	EXPECT(fabric_sends(skb, &ack) == MALLA_VERDICT_CUT);
	tunnel.flags = TCP_ACK;
	EXPECT(fabric_sends(skb, &tunnel) == MALLA_VERDICT_TO_ENGINE);
	return 0;
}

SEC("tc")
int without_an_engine_it_is_as_the_pod_chose(struct __sk_buff *skb)
{
	static struct packet syn;

	put_inbound(MALLA_POD_INBOUND | MALLA_POD_FAILS_CLOSED);
	put_setting(0);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_ENGINE_REFUSED);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_ENGINE_REFUSED);
	put_inbound(MALLA_POD_INBOUND);
	put_setting(0);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int without_an_engine_nobody_answers_at_the_nodes_port(struct __sk_buff *skb)
{
	static struct packet syn;
	__u32 first = 0;

	/* The pod may fail open: what is in a tunnel is nothing that it could read. */
	put_inbound(MALLA_POD_MESHED);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, MALLA_HBONE_PORT), TCP_SYN);
	bpf_map_delete_elem(&malla_listen, &first);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_ENGINE_REFUSED);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_ENGINE_REFUSED);
	EXPECT(!flow_of(&syn));
	return 0;
}

SEC("tc")
int the_engine_dials_the_pod_from_its_clients_address(struct __sk_buff *skb)
{
	static struct packet syn, answer, late;
	struct ends ends = {.target = OTHER_INTERFACE};

	put_inbound(MALLA_POD_INBOUND);
	syn = packet_between(end4(CLIENT, 63268), end4(SERVER, 8080), TCP_SYN);
	answer = packet_between(end4(SERVER, 8080), end4(CLIENT, 63268), TCP_ACK);
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_PASS);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	/* An entry that the table lost is put back, mid-stream too. */
	late = packet_between(end4(CLIENT, 63269), end4(SERVER, 8080), TCP_ACK);
	answer.flow.target_port_be = bpf_htons(63269);
	EXPECT(engine_sends(&late, &ends) == MALLA_VERDICT_PASS);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	return 0;
}

SEC("tc")
int the_engine_does_not_dial_from_the_port_that_its_client_has(struct __sk_buff *skb)
{
	static struct packet syn, ack;
	struct ends ends = {.target = OTHER_INTERFACE};

	put_inbound(MALLA_POD_INBOUND);
	syn = packet_between(end4(CLIENT, 63268), end4(SERVER, 8080), TCP_SYN);
	ack = packet_between(end4(CLIENT, 63268), end4(SERVER, 8080), TCP_ACK);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_CAPTURED);
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_ENGINE_MET_POD);
	EXPECT(fabric_sends(skb, &ack) == MALLA_VERDICT_TO_ENGINE);
	return 0;
}

SEC("tc")
int a_client_that_dialled_a_service_is_answered_by_it(struct __sk_buff *skb)
{
	static struct packet syn, answer, ack;
	struct ends ends = {.source = OTHER_INTERFACE, .target = POD_INTERFACE};

	put_pod(0);
	put_inbound(MALLA_POD_INBOUND);
	put_service(0, 1);
	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	ack = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	answer = packet_between(end4(SERVER, 8080), end4(POD, 40000), TCP_SYN | TCP_ACK);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	EXPECT(engine_sends(&answer, &ends) == MALLA_VERDICT_PASS);
	EXPECT(ends.dialled.port_be == bpf_htons(80));
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	return 0;
}

/* The node may masquerade its pods there, and its connection tracking sees both directions. */
SEC("tc")
int answers_of_the_world_to_what_the_engine_dialled_come_by_the_stack(struct __sk_buff *skb)
{
	static struct packet syn, answer;
	struct ends ends = {.source = POD_INTERFACE};

	syn = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_SYN);
	answer = packet_between(end4(SERVER, 8080), end4(POD, 61000), TCP_ACK);
	put_setting(ENGINE_INTERFACE);
	put_pod(MALLA_POD_MESHED);
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_PASS);
	EXPECT(ends.is_stacks);
	EXPECT(fabric_sends(skb, &answer) == MALLA_VERDICT_PASS);
	EXPECT(stack_sends(skb, &answer) == MALLA_VERDICT_TO_ENGINE);
	/* A connection stays on its way, whoever is known to be a pod later. */
	put_far(SERVER, 0);
	syn.flags = TCP_ACK;
	ends.is_stacks = 0;
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_PASS);
	EXPECT(ends.is_stacks);
	EXPECT(fabric_sends(skb, &answer) == MALLA_VERDICT_PASS);
	return 0;
}
