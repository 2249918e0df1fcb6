/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What policies say of a flow, where it is judged, and when it is judged again. */
#include "test/cores.h"

#define CLIENT_IDENTITY 257	   /* endpoint 1 */
#define SERVER_IDENTITY 258	   /* endpoint 2 */
#define REMOTE		0x0a020005 /* 10.2.0.5, of another node */

/* Two pods of this node; the policies of set 1 select the server. */
static __always_inline void put_two_pods(void)
{
	put_generation(1, 0);
	put_selected(POD, POD_INTERFACE, CLIENT_IDENTITY, 0);
	put_selected(SERVER, OTHER_INTERFACE, SERVER_IDENTITY, 1);
	put_set(1, 0);
}

SEC("tc")
int what_no_policy_selects_is_open_and_goes_straight(struct __sk_buff *skb)
{
	static struct packet syn, answer;

	syn = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	answer = packet_between(end4(SERVER, 80), end4(POD, 40000), TCP_SYN | TCP_ACK);
	put_generation(1, 0);
	put_selected(POD, POD_INTERFACE, CLIENT_IDENTITY, 0);
	put_selected(SERVER, OTHER_INTERFACE, SERVER_IDENTITY, 0);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	EXPECT(flow_of(&syn) == flow_of(&answer));
	return 0;
}

SEC("tc")
int what_a_policy_selects_is_closed_but_for_what_a_rule_allows(struct __sk_buff *skb)
{
	static struct packet http, ssh;
	const struct malla_flow *flow;

	http = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	ssh = packet_between(end4(POD, 40001), end4(SERVER, 22), TCP_SYN);
	put_two_pods();
	EXPECT(pod_sends(skb, &http, POD_INTERFACE) == MALLA_VERDICT_DENIED_INGRESS);
	EXPECT(!flow_of(&http));

	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 80, MALLA_POLICY_EXACT_BITS, MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &http, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	flow = flow_of(&http);
	EXPECT(flow && flow->rule == 7);
	EXPECT(pod_sends(skb, &ssh, POD_INTERFACE) == MALLA_VERDICT_DENIED_INGRESS);
	return 0;
}

SEC("tc")
int both_ends_are_judged_where_the_packet_leaves(struct __sk_buff *skb)
{
	static struct packet syn;

	syn = packet_between(end4(SERVER, 40000), end4(POD, 80), TCP_SYN);
	put_two_pods();
	EXPECT(pod_sends(skb, &syn, OTHER_INTERFACE) == MALLA_VERDICT_DENIED_EGRESS);
	put_policy(CLIENT_IDENTITY, MALLA_EGRESS, 80, MALLA_POLICY_EXACT_BITS, MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &syn, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int answers_pass_whatever_the_policies_of_either_end_say(struct __sk_buff *skb)
{
	static struct packet syn, answer;

	syn = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	answer = packet_between(end4(SERVER, 80), end4(POD, 40000), TCP_SYN | TCP_ACK);
	put_two_pods();
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 80, MALLA_POLICY_EXACT_BITS, MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int the_longest_port_prefix_decides(struct __sk_buff *skb)
{
	static struct packet low, high;

	low = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	high = packet_between(end4(POD, 40001), end4(SERVER, 8090), TCP_SYN);
	put_two_pods();
	/* 8064-8127 are allowed, 8088-8095 of them not. */
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 8064, 80 + 10, MALLA_POLICY_ALLOW);
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 8088, 80 + 13, MALLA_POLICY_DENY);
	EXPECT(pod_sends(skb, &low, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	EXPECT(pod_sends(skb, &high, POD_INTERFACE) == MALLA_VERDICT_DENIED_INGRESS);
	return 0;
}

SEC("tc")
int a_peers_own_rows_come_before_those_of_any_peer(struct __sk_buff *skb)
{
	static struct packet syn, other;

	syn = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	other = packet_between(end4(REMOTE, 40000), end4(SERVER, 80), TCP_SYN);
	put_two_pods();
	put_policy(0, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PORT_BITS, MALLA_POLICY_ALLOW);
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PORT_BITS,
		   MALLA_POLICY_DENY);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_DENIED_INGRESS);
	EXPECT(stack_sends(skb, &other) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int other_protocols_need_a_rule_without_ports(struct __sk_buff *skb)
{
	static struct packet echo;

	echo = packet_between(end4(POD, 99), end4(SERVER, 0), 0);
	echo.flow.protocol = IPPROTO_ICMP;
	put_two_pods();
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PORT_BITS,
		   MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &echo, POD_INTERFACE) == MALLA_VERDICT_DENIED_INGRESS);
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PROTOCOL_BITS,
		   MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &echo, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int the_longest_prefix_says_who_is_at_an_address(struct __sk_buff *skb)
{
	static struct packet near, far;

	near = packet_between(end4(REMOTE, 40000), end4(SERVER, 80), TCP_SYN);
	far = packet_between(end4(REMOTE + 256, 40000), end4(SERVER, 80), TCP_SYN);
	put_two_pods();
	put_identity(0x0a020000, 16, 300);
	put_identity(REMOTE & 0xffffff00, 24, 301);
	put_policy(301, MALLA_INGRESS, 80, MALLA_POLICY_EXACT_BITS, MALLA_POLICY_ALLOW);
	EXPECT(stack_sends(skb, &near) == MALLA_VERDICT_PASS);
	EXPECT(stack_sends(skb, &far) == MALLA_VERDICT_DENIED_INGRESS);
	return 0;
}

SEC("tc")
int a_pod_always_reaches_itself(struct __sk_buff *skb)
{
	static struct packet syn;

	syn = packet_between(end4(SERVER, 40000), end4(SERVER, 80), TCP_SYN);
	put_two_pods();
	EXPECT(pod_sends(skb, &syn, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int the_node_reaches_its_own_pods_where_the_switch_is_on(struct __sk_buff *skb)
{
	static struct packet probe;

	probe = packet_between(end4(REMOTE, 40000), end4(SERVER, 80), TCP_SYN);
	put_two_pods();
	put_identity(REMOTE, 32, MALLA_IDENTITY_HOST);
	EXPECT(stack_sends(skb, &probe) == MALLA_VERDICT_DENIED_INGRESS);
	put_generation(1, MALLA_SETTING_HOST_ALLOWED);
	EXPECT(stack_sends(skb, &probe) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int what_is_only_being_tried_is_counted_and_passes(struct __sk_buff *skb)
{
	static struct packet syn, ack;
	const struct malla_flow *flow;

	syn = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	ack = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_ACK);
	put_two_pods();
	put_set(1, MALLA_SET_AUDIT);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_AUDITED);
	flow = flow_of(&syn);
	EXPECT(flow && flow->flags & MALLA_FLOW_AUDITED);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int a_change_of_policies_cuts_what_they_no_longer_allow_and_nothing_else(struct __sk_buff *skb)
{
	static struct packet http, ssh, answer;

	http = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	ssh = packet_between(end4(POD, 40001), end4(SERVER, 22), TCP_SYN);
	answer = packet_between(end4(SERVER, 22), end4(POD, 40001), TCP_ACK);
	put_two_pods();
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PORT_BITS,
		   MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &http, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	EXPECT(pod_sends(skb, &ssh, POD_INTERFACE) == MALLA_VERDICT_DIRECT);

	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 22, MALLA_POLICY_EXACT_BITS, MALLA_POLICY_DENY);
	http.flags = TCP_ACK;
	ssh.flags = TCP_ACK;
	EXPECT(pod_sends(skb, &ssh, POD_INTERFACE) == MALLA_VERDICT_DIRECT); /* not yet in force */
	put_generation(2, 0);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_CUT);
	EXPECT(pod_sends(skb, &ssh, POD_INTERFACE) == MALLA_VERDICT_CUT);
	EXPECT(pod_sends(skb, &http, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int a_change_of_policies_cuts_datagrams_and_echoes_and_those_of_nobody_else(struct __sk_buff *skb)
{
	static const __u8 protocols[] = {IPPROTO_UDP, IPPROTO_ICMP};
	static struct packet asks, answers, others;

	put_two_pods();
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PROTOCOL_BITS,
		   MALLA_POLICY_ALLOW);
	put_policy(0, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PROTOCOL_BITS, MALLA_POLICY_ALLOW);
	/* What asks, its answer and what another asks; an echo has its identifier at its end. */
	asks = packet_between(end4(POD, 4000), end4(SERVER, 0), 0);
	answers = packet_between(end4(SERVER, 0), end4(POD, 4000), 0);
	others = packet_between(end4(REMOTE, 4000), end4(SERVER, 0), 0);
	answers.is_answer = 1;
	for (__u32 each = 0; each < 2; each++) {
		asks.flow.protocol = answers.flow.protocol = others.flow.protocol = protocols[each];
		EXPECT(pod_sends(skb, &asks, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
		EXPECT(pod_sends(skb, &answers, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
		EXPECT(stack_sends(skb, &others) == MALLA_VERDICT_PASS);
	}
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PROTOCOL_BITS,
		   MALLA_POLICY_DENY);
	put_generation(2, 0);
	for (__u32 each = 0; each < 2; each++) {
		asks.flow.protocol = answers.flow.protocol = others.flow.protocol = protocols[each];
		EXPECT(pod_sends(skb, &answers, OTHER_INTERFACE) == MALLA_VERDICT_CUT);
		EXPECT(pod_sends(skb, &asks, POD_INTERFACE) == MALLA_VERDICT_CUT);
		EXPECT(stack_sends(skb, &others) == MALLA_VERDICT_PASS);
	}
	return 0;
}

SEC("tc")
int a_packet_mid_stream_that_no_socket_confirms_is_its_senders(struct __sk_buff *skb)
{
	static struct packet answer, push;
	const struct malla_flow *flow;

	answer = packet_between(end4(SERVER, 80), end4(POD, 40000), TCP_ACK);
	push = packet_between(end4(POD, 40001), end4(SERVER, 22), TCP_ACK);
	put_two_pods();
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 80, MALLA_POLICY_EXACT_BITS, MALLA_POLICY_ALLOW);
	/* Neither the flags nor the ports that it bears make an answer of it. */
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_DENIED_EGRESS);
	EXPECT(!flow_of(&answer));
	put_policy(CLIENT_IDENTITY, MALLA_EGRESS, 40000, MALLA_POLICY_EXACT_BITS,
		   MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_PASS);
	flow = flow_of(&answer);
	EXPECT(flow && flow->state == MALLA_FLOW_OPEN);
	EXPECT(pod_sends(skb, &push, POD_INTERFACE) == MALLA_VERDICT_DENIED_INGRESS);
	return 0;
}

SEC("tc")
int what_can_only_answer_opens_nothing_whoever_sends_it(struct __sk_buff *skb)
{
	static struct packet packet;

	put_two_pods();
	put_selected(SERVER, OTHER_INTERFACE, SERVER_IDENTITY, 0);
	packet = packet_between(end4(POD, 50000), end4(REMOTE, 22), TCP_SYN | TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_UNASKED);
	EXPECT(!flow_of(&packet));
	packet = packet_between(end4(REMOTE, 22), end4(POD, 50000), TCP_SYN | TCP_ACK);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_UNASKED);
	packet = packet_between(end4(POD, 0), end4(SERVER, 9), 0);
	packet.flow.protocol = IPPROTO_ICMP;
	packet.is_answer = 1;
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_UNASKED);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_UNASKED);
	EXPECT(!flow_of(&packet));
	return 0;
}

SEC("tc")
int what_another_versions_programs_were_asked_is_an_answer_while_they_are_attached(
    struct __sk_buff *skb)
{
	static struct packet packet;
	static struct malla_setting values;
	__u32 first = 0;

	put_two_pods();
	put_selected(SERVER, OTHER_INTERFACE, SERVER_IDENTITY, 0);
	values.flags = MALLA_SETTING_JOINS;
	bpf_map_update_elem(&malla_setting, &first, &values, BPF_ANY);
	packet = packet_between(end4(POD, 0), end4(SERVER, 9), 0);
	packet.flow.protocol = IPPROTO_ICMP;
	packet.is_answer = 1;
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	EXPECT(flow_of(&packet));
	packet = packet_between(end4(REMOTE, 22), end4(POD, 50000), TCP_SYN | TCP_ACK);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int what_asks_by_icmp_is_no_answer_to_what_the_other_end_asked(struct __sk_buff *skb)
{
	static struct packet packet;
	struct malla_flow *flow;

	/* The server may be asked, and may ask nobody. */
	put_two_pods();
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 0, MALLA_POLICY_ANY_PROTOCOL_BITS,
		   MALLA_POLICY_ALLOW);
	packet = packet_between(end4(POD, 0), end4(SERVER, 0), 0);
	packet.flow.protocol = IPPROTO_ICMP;
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	packet = packet_between(end4(SERVER, 0), end4(POD, 0), 0);
	packet.flow.protocol = IPPROTO_ICMP;
	EXPECT(pod_sends(skb, &packet, OTHER_INTERFACE) == MALLA_VERDICT_DENIED_EGRESS);
	packet.is_answer = 1;
	EXPECT(pod_sends(skb, &packet, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	/* Once it may ask, that is a flow of its own direction. */
	put_policy(CLIENT_IDENTITY, MALLA_EGRESS, 0, MALLA_POLICY_ANY_PROTOCOL_BITS,
		   MALLA_POLICY_ALLOW);
	packet.is_answer = 0;
	EXPECT(pod_sends(skb, &packet, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	flow = flow_of(&packet);
	EXPECT(flow && flow->interfaces[0] == OTHER_INTERFACE);
	packet = packet_between(end4(POD, 0), end4(SERVER, 0), 0);
	packet.flow.protocol = IPPROTO_ICMP;
	packet.is_answer = 1;
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int an_uplink_brings_nothing_of_the_nodes_own_nor_of_its_pods(struct __sk_buff *skb)
{
	static struct packet packet;

	put_two_pods();
	put_selected(SERVER, OTHER_INTERFACE, SERVER_IDENTITY, 0);
	put_identity(REMOTE, 32, MALLA_IDENTITY_HOST);
	packet = packet_between(end4(REMOTE, 5000), end4(SERVER, 80), TCP_SYN);
	EXPECT(fabric_sends(skb, &packet) == MALLA_VERDICT_SPOOFED);
	EXPECT(stack_sends(skb, &packet) == MALLA_VERDICT_PASS);
	packet = packet_between(end4(SERVER, 5000), end4(SERVER, 80), TCP_SYN);
	EXPECT(fabric_sends(skb, &packet) == MALLA_VERDICT_SPOOFED);
	packet = packet_between(end4(REMOTE + 1, 5000), end4(SERVER, 80), TCP_SYN);
	EXPECT(fabric_sends(skb, &packet) == MALLA_VERDICT_PASS);
	/* In a flow that is there, too. */
	packet = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	packet = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_ACK);
	EXPECT(fabric_sends(skb, &packet) == MALLA_VERDICT_SPOOFED);
	return 0;
}

SEC("tc")
int what_the_engine_dials_is_judged_as_its_clients(struct __sk_buff *skb)
{
	static struct packet syn;
	struct ends ends = {.source = POD_INTERFACE, .target = OTHER_INTERFACE};

	(void)skb;
	syn = packet_between(end4(POD, 61000), end4(SERVER, 80), TCP_SYN);
	put_two_pods();
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_DENIED_INGRESS);
	put_policy(CLIENT_IDENTITY, MALLA_INGRESS, 80, MALLA_POLICY_EXACT_BITS, MALLA_POLICY_ALLOW);
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int what_came_by_the_nodes_stack_is_answered_by_it(struct __sk_buff *skb)
{
	static struct packet syn, answer, datagram;

	syn = packet_between(end4(POD, 40000), end4(SERVER, 80), TCP_SYN);
	answer = packet_between(end4(SERVER, 80), end4(POD, 40000), TCP_SYN | TCP_ACK);
	put_generation(1, 0);
	put_selected(POD, POD_INTERFACE, CLIENT_IDENTITY, 0);
	put_selected(SERVER, OTHER_INTERFACE, SERVER_IDENTITY, 0);
	/* The node's NAT has put the server in place of a service. */
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_PASS);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_PASS);

	datagram = packet_between(end4(SERVER, 53), end4(POD, 40000), 0);
	datagram.flow.protocol = IPPROTO_UDP;
	EXPECT(pod_sends(skb, &datagram, OTHER_INTERFACE) == MALLA_VERDICT_PASS);
	return 0;
}

static __always_inline void put_held(__u32 address, __u32 bits)
{
	struct malla_end end = end4(address, 0);
	struct malla_prefix key = {.prefix_bits = bits};
	__u32 one = 1;

	if (bits)
		key.address = end.address;
	bpf_map_update_elem(&malla_held, &key, &one, BPF_ANY);
}

SEC("tc")
int only_pods_of_the_nodes_blocks_are_held_if_it_has_some(struct __sk_buff *skb)
{
	struct malla_end inside = end4(REMOTE, 0);
	struct malla_end outside = end4(REMOTE + 1, 0);

	(void)skb;
	put_setting(0);
	put_held(REMOTE, 128);
	EXPECT(hold_judge(&inside.address) == MALLA_VERDICT_NOT_READY);
	EXPECT(hold_judge(&outside.address) == MALLA_VERDICT_PASS);
	return 0;
}

static __always_inline void put_device(__u64 cookie, __u32 index, __u32 kind)
{
	struct malla_device key = {.namespace_cookie = cookie, .index = index};

	bpf_map_update_elem(&malla_device, &key, &kind, BPF_ANY);
}

static __always_inline int is_asked(__u64 cookie, __u32 index)
{
	struct malla_device key = {.namespace_cookie = cookie, .index = index};

	return bpf_map_lookup_elem(&malla_asked, &key) != 0;
}

SEC("tc")
int a_pod_is_held_until_its_namespace_is_behind_its_programs(struct __sk_buff *skb)
{
	struct malla_setting values = {.node_cookie = 1, .engine_cookie = 2};
	__u64 cookie = 3;
	__u32 first = 0;
	__u32 interface = POD_INTERFACE;

	(void)skb;
	values.flags = MALLA_SETTING_JOINS;
	bpf_map_update_elem(&malla_setting, &first, &values, BPF_ANY);
	EXPECT(hold_is_open(1, 5));
	EXPECT(hold_is_open(2, 5));
	EXPECT(!hold_is_open(cookie, 5));
	EXPECT(!hold_is_open(cookie, LOOPBACK));
	EXPECT(hold_ask(cookie, 5) == MALLA_VERDICT_NOT_READY);
	EXPECT(!is_asked(cookie, 5)); /* nobody could answer */
	bpf_map_update_elem(&malla_space, &cookie, &interface, BPF_ANY);
	put_device(cookie, 5, MALLA_DEVICE_OWN);
	EXPECT(hold_is_open(cookie, 5));
	EXPECT(hold_is_open(cookie, LOOPBACK));
	EXPECT(!hold_is_open(4, 5)); /* that address and interface in a namespace that came after */
	return 0;
}

SEC("tc")
int a_device_that_came_after_a_pods_own_is_held_until_the_agent_knows_it(struct __sk_buff *skb)
{
	__u64 cookie = 3, other = 4;
	__u32 interface = POD_INTERFACE;

	(void)skb;
	put_setting(0);
	bpf_map_update_elem(&malla_space, &cookie, &interface, BPF_ANY);
	bpf_map_update_elem(&malla_space, &other, &interface, BPF_ANY);
	put_device(cookie, 5, MALLA_DEVICE_OWN);
	EXPECT(!hold_is_open(cookie, 6));
	EXPECT(hold_ask(cookie, 6) == MALLA_VERDICT_NOT_READY);
	EXPECT(is_asked(cookie, 6));
	EXPECT(!hold_is_open(cookie, 6)); /* to ask opens nothing */
	put_device(cookie, 6, MALLA_DEVICE_OTHER);
	EXPECT(hold_is_open(cookie, 6));
	EXPECT(!hold_is_open(other, 6)); /* of the same number in another pod */
	return 0;
}

SEC("tc")
int a_device_is_held_where_there_is_no_room_to_ask_about_it(struct __sk_buff *skb)
{
	__u64 cookie = 3;
	__u32 interface = POD_INTERFACE;

	(void)skb;
	bpf_map_update_elem(&malla_space, &cookie, &interface, BPF_ANY);
#pragma clang loop unroll(disable)
	for (__u32 index = 10; index < 1034; index++)
		EXPECT(hold_ask(cookie, index) == MALLA_VERDICT_NOT_READY);
	EXPECT(hold_ask(cookie, 9) == MALLA_VERDICT_DEVICES_FULL);
	EXPECT(!is_asked(cookie, 9));
	EXPECT(hold_ask(cookie, 10) == MALLA_VERDICT_NOT_READY); /* as before */
	return 0;
}

SEC("tc")
int a_pod_in_another_namespace_is_held_whatever_its_address(struct __sk_buff *skb)
{
	struct malla_end end = end4(REMOTE, 0);
	__u32 one = 1;

	(void)skb;
	EXPECT(hold_judge(&end.address) == MALLA_VERDICT_PASS);
	put_held(0, 0);
	EXPECT(hold_judge(&end.address) == MALLA_VERDICT_NOT_READY);
	bpf_map_update_elem(&malla_known, &end.address, &one, BPF_ANY);
	EXPECT(hold_judge(&end.address) == MALLA_VERDICT_PASS);
	end = end4(0x7f000001, 0);
	EXPECT(hold_judge(&end.address) == MALLA_VERDICT_PASS);
	put_selected(POD, POD_INTERFACE, 257, 0);
	end = end4(POD, 0);
	EXPECT(hold_judge(&end.address) == MALLA_VERDICT_NOT_READY);
	return 0;
}
