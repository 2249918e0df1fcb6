/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Services for those outside, and of pods past the socket hooks: what is chosen and recorded. */
#include "test/cores.h"

#define CLIENT	   0xc6336401 /* 198.51.100.1 */
#define NODE	   0x0a000001 /* 10.0.0.1 */
#define REMOTE_POD 0x0a020005 /* 10.2.0.5 */

static __always_inline void put_node(void)
{
	struct malla_end own = end4(NODE, 0);
	struct malla_node node = {.source4 = own.address, .flags = MALLA_NODE_SERVES};
	__u32 near = MALLA_NEAR_OWN;
	__u32 first = 0;

	bpf_map_update_elem(&malla_node, &first, &node, BPF_ANY);
	bpf_map_update_elem(&malla_near, &own.address, &near, BPF_ANY);
}

/* A node port 30080 with `endpoint` behind it. */
static __always_inline void put_open(__u32 endpoint, __u32 endpoints, __u32 flags)
{
	struct malla_end any = end4(0, 30080);
	struct malla_end end = end4(endpoint, 8080);
	struct malla_service service = {
	    .inside = {.id = 3, .endpoints = endpoints},
	    .outside = {.id = 3, .endpoints = endpoints},
	    .flags = flags,
	};
	struct malla_endpoint_key slot = {.group = 3};

	bpf_map_update_elem(&malla_service, &any, &service, BPF_ANY);
	bpf_map_update_elem(&malla_endpoint, &slot, &end, BPF_ANY);
	put_node();
}

SEC("tc")
int a_local_pod_sees_the_clients_own_address(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	struct malla_flow_key becomes, back;
	struct malla_snat *answer;

	(void)unused;
	put_open(SERVER, 1, 0);
	put_server(0);
	EXPECT(outside_judge(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	EXPECT(becomes.source.words_be[3] == bpf_htonl(CLIENT));
	EXPECT(becomes.target.words_be[3] == bpf_htonl(SERVER));
	EXPECT(becomes.target_port_be == bpf_htons(8080));
	back = flow_reversed(&becomes);
	answer = nat_find(&back, MALLA_NAT_OUT_OF_POD);
	EXPECT(answer && answer->becomes.source_port_be == bpf_htons(30080));
	return 0;
}

SEC("tc")
int another_nodes_pod_is_dialled_from_the_nodes_address(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	struct packet answer = {};
	struct malla_flow_key becomes;

	(void)unused;
	put_open(REMOTE_POD, 1, 0);
	EXPECT(outside_judge(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	EXPECT(becomes.source.words_be[3] == bpf_htonl(NODE));
	EXPECT(bpf_ntohs(becomes.source_port_be) >= MALLA_SNAT_PORT_MIN);
	EXPECT(bpf_ntohs(becomes.source_port_be) <= MALLA_SNAT_PORT_MAX);

	answer.flow = flow_reversed(&becomes);
	answer.flags = TCP_SYN | TCP_ACK;
	EXPECT(outside_judge(&answer, &becomes) == MALLA_VERDICT_TRANSLATED_BACK);
	EXPECT(becomes.source_port_be == bpf_htons(30080));
	EXPECT(becomes.target.words_be[3] == bpf_htonl(CLIENT));
	return 0;
}

SEC("tc")
int a_known_flow_keeps_its_endpoint(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	struct packet ack = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_ACK);
	struct malla_flow_key first, then;

	(void)unused;
	put_open(SERVER, 1, 0);
	put_server(0);
	EXPECT(outside_judge(&ack, &first) == MALLA_VERDICT_PASS); /* began before us */
	EXPECT(outside_judge(&syn, &first) == MALLA_VERDICT_TRANSLATED);
	put_open(REMOTE_POD, 1, 0);
	EXPECT(outside_judge(&ack, &then) == MALLA_VERDICT_TRANSLATED);
	EXPECT(address_is_equal(&first.target, &then.target));
	return 0;
}

SEC("tc")
int source_ranges_say_who_is_admitted(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	struct malla_range range = {.prefix_bits = 32 + 96 + 24, .service = 3};
	struct malla_flow_key becomes;
	__u32 admitted = 1;

	(void)unused;
	put_open(SERVER, 1, MALLA_SERVICE_RANGED);
	put_server(0);
	EXPECT(outside_judge(&syn, &becomes) == MALLA_VERDICT_SOURCE_REFUSED);
	address_from_ip4(&range.address, bpf_htonl(CLIENT));
	bpf_map_update_elem(&malla_range, &range, &admitted, BPF_ANY);
	EXPECT(outside_judge(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

SEC("tc")
int nobody_to_serve_is_said_and_cluster_addresses_are_not_served_outside(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	struct packet inner = packet_between(end4(CLIENT, 5000), end4(SERVICE, 80), TCP_SYN);
	struct malla_flow_key becomes;

	(void)unused;
	put_service(0, 1);
	EXPECT(outside_judge(&inner, &becomes) == MALLA_VERDICT_PASS);
	put_open(SERVER, 0, 0);
	EXPECT(outside_judge(&syn, &becomes) == MALLA_VERDICT_NO_ENDPOINT);
	return 0;
}

SEC("tc")
int two_flows_never_share_a_port_and_a_closed_ones_is_free(struct __sk_buff *unused)
{
	struct packet first = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	struct packet second = packet_between(end4(CLIENT, 5001), end4(NODE, 30080), TCP_SYN);
	struct nat_plan plan = {.there = MALLA_NAT_FROM_FABRIC, .back = MALLA_NAT_FROM_REMOTE};
	struct malla_end node = end4(NODE, 0), pod = end4(REMOTE_POD, 8080);
	__u16 taken;

	(void)unused;
	plan.becomes.source = node.address;
	plan.becomes.target = pod.address;
	plan.becomes.target_port_be = pod.port_be;
	plan.becomes.protocol = IPPROTO_TCP;
	EXPECT(!nat_record_from(&first.flow, &plan, 7));
	taken = plan.becomes.source_port_be;
	EXPECT(nat_record(&second.flow, &plan));
	EXPECT(!nat_record_from(&second.flow, &plan, 7));
	EXPECT(plan.becomes.source_port_be != taken);
	return 0;
}

SEC("tc")
int a_flow_is_over_by_its_state_and_silence(struct __sk_buff *unused)
{
	struct malla_snat entry = {.seen_ns = 1};
	__u64 second = NAT_SECOND;

	(void)unused;
	EXPECT(!nat_is_over(&entry, IPPROTO_TCP, 59 * second));
	EXPECT(nat_is_over(&entry, IPPROTO_TCP, 61 * second));
	entry.state = NAT_ANSWERED;
	EXPECT(!nat_is_over(&entry, IPPROTO_TCP, 7999 * second));
	entry.state = NAT_ANSWERED | NAT_FINISHED;
	EXPECT(nat_is_over(&entry, IPPROTO_TCP, 3 * second));
	EXPECT(!nat_is_over(&entry, IPPROTO_UDP, 179 * second));
	EXPECT(nat_is_over(&entry, IPPROTO_UDP, 181 * second));
	return 0;
}

/* All ports that are tried towards REMOTE_POD:8080 are somebody else's. */
__attribute__((noinline)) int put_taken(const struct malla_flow_key *flow)
{
	__u32 span = MALLA_SNAT_PORT_MAX - MALLA_SNAT_PORT_MIN + 1;
	struct malla_end node = end4(NODE, 0), pod = end4(REMOTE_POD, 8080);
	struct malla_snat entry = {
	    .kind = MALLA_NAT_FROM_REMOTE,
	    .seen_ns = bpf_ktime_get_ns(),
	};
	struct malla_flow_key answer = {
	    .source = pod.address,
	    .target = node.address,
	    .source_port_be = pod.port_be,
	    .protocol = IPPROTO_TCP,
	};

	if (!flow)
		return 0;
	for (__u32 tried = 0; tried < NAT_PORTS_TRIED; tried++) {
		answer.target_port_be = bpf_htons(
		    (__u16)(MALLA_SNAT_PORT_MIN + (nat_hash(flow) + tried * 7919) % span));
		bpf_map_update_elem(&malla_snat, &answer, &entry, BPF_ANY);
	}
	return 0;
}

SEC("tc")
int where_every_port_that_is_tried_is_taken_the_client_is_dropped_by_name(struct __sk_buff *unused)
{
	static struct packet syn;
	static struct malla_flow_key becomes;

	(void)unused;
	syn = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	put_open(REMOTE_POD, 1, 0);
	put_taken(&syn.flow);
	EXPECT(outside_judge(&syn, &becomes) == MALLA_VERDICT_SNAT_PORTS);
	syn.flow.source_port_be = bpf_htons(5001);
	EXPECT(outside_judge(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

/* Another node port, 30081, with the same endpoint. */
static __always_inline void put_twin(void)
{
	struct malla_end any = end4(0, 30081);
	struct malla_service service = {
	    .inside = {.id = 3, .endpoints = 1},
	    .outside = {.id = 3, .endpoints = 1},
	};

	bpf_map_update_elem(&malla_service, &any, &service, BPF_ANY);
}

/* `ports`: the source's above the target's. A function of its own, as the cores are: it would take
 * the stack of its callers. */
__attribute__((noinline)) int fill(struct packet *packet, __u32 source, __u32 ports, __u32 target,
				   __u32 flags)
{
	if (!packet)
		return 0;
	*packet = packet_between(end4(source, (__u16)(ports >> 16)), end4(target, (__u16)ports),
				 (__u8)flags);
	return 0;
}

/* A pod behind a node port, and its client. */
__attribute__((noinline)) int put_open_pod(__u32 endpoint)
{
	put_setting(0);
	put_open(endpoint, 1, 0);
	put_pod(0);
	put_server(0);
	return 0;
}

#define TO_SERVICE (5000u << 16 | 30080)
#define TO_POD	   (5000u << 16 | 8080)

__attribute__((noinline)) int outside_sends(const struct packet *packet,
					    struct malla_flow_key *becomes)
{
	if (!packet || !becomes)
		return MALLA_VERDICT_FAILED;
	return outside_judge(packet, becomes);
}

SEC("tc")
int a_client_of_two_services_of_one_pod_from_one_port_keeps_both(struct __sk_buff *unused)
{
	static struct packet first, second;
	static struct malla_flow_key one, other, back;
	struct malla_snat *answer;

	(void)unused;
	first = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	second = packet_between(end4(CLIENT, 5000), end4(NODE, 30081), TCP_SYN);
	put_open(SERVER, 1, 0);
	put_twin();
	put_server(0);
	EXPECT(outside_sends(&first, &one) == MALLA_VERDICT_TRANSLATED);
	EXPECT(one.source_port_be == bpf_htons(5000));
	EXPECT(outside_sends(&second, &other) == MALLA_VERDICT_TRANSLATED);
	EXPECT(address_is_equal(&other.source, &one.source));
	EXPECT(other.source_port_be != bpf_htons(5000));
	back = flow_reversed(&other);
	answer = nat_find(&back, MALLA_NAT_OUT_OF_POD);
	EXPECT(answer && answer->becomes.source_port_be == bpf_htons(30081));
	EXPECT(answer->becomes.target_port_be == bpf_htons(5000));
	back = flow_reversed(&one);
	answer = nat_find(&back, MALLA_NAT_OUT_OF_POD);
	EXPECT(answer && answer->becomes.source_port_be == bpf_htons(30080));
	return 0;
}

SEC("tc")
int a_client_whose_row_is_gone_before_its_flow_keeps_his_port(struct __sk_buff *skb)
{
	static struct packet syn, sent;
	static struct malla_flow_key becomes, answer;

	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	put_open_pod(SERVER);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	sent = syn;
	sent.flow = becomes;
	EXPECT(stack_sends(skb, &sent) == MALLA_VERDICT_PASS);
	answer = flow_reversed(&becomes);
	bpf_map_delete_elem(&malla_snat, &answer);
	bpf_map_delete_elem(&malla_snat, &syn.flow);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	EXPECT(becomes.source_port_be == bpf_htons(5000));
	return 0;
}

SEC("tc")
int a_client_of_the_pod_itself_keeps_his_port_when_he_dials_a_service(struct __sk_buff *skb)
{
	static struct packet direct, syn;
	static struct malla_flow_key becomes;

	fill(&direct, CLIENT, TO_POD, SERVER, TCP_SYN);
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	put_open_pod(SERVER);
	EXPECT(stack_sends(skb, &direct) == MALLA_VERDICT_PASS);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	EXPECT(becomes.source_port_be != bpf_htons(5000));
	return 0;
}

SEC("tc")
int a_pod_that_a_services_client_dials_never_answers_as_the_service(struct __sk_buff *skb)
{
	static struct packet direct, syn;
	static struct malla_flow_key becomes;
	struct malla_flow *flow;

	fill(&direct, CLIENT, TO_POD, SERVER, TCP_SYN);
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	put_open_pod(SERVER);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	EXPECT(becomes.source_port_be == bpf_htons(5000));
	/* As it leaves for the pod. */
	EXPECT(stack_sends(skb, &direct) == MALLA_VERDICT_PASS);
	EXPECT(fabric_sends(skb, &direct) == MALLA_VERDICT_SNAT_PORTS);
	flow = flow_of(&direct);
	EXPECT(flow);
	flow->state = MALLA_FLOW_CLOSED;
	EXPECT(fabric_sends(skb, &direct) == MALLA_VERDICT_PASS);
	return 0;
}

/* What is recorded of a packet to a service, there and back. */
__attribute__((noinline)) int rows_of(const struct packet *sent, struct malla_flow_key *becomes)
{
	struct malla_flow_key answer;

	if (!sent || !becomes)
		return 0;
	answer = flow_reversed(becomes);
	return (bpf_map_lookup_elem(&malla_snat, &sent->flow) != 0) +
	       (bpf_map_lookup_elem(&malla_snat, &answer) != 0);
}

SEC("tc")
int who_dials_a_pod_after_its_service_from_one_port_is_not_answered_by_the_service(
    struct __sk_buff *skb)
{
	static struct packet direct, syn, reset;
	static struct malla_flow_key becomes;
	struct malla_flow *flow;

	fill(&direct, CLIENT, TO_POD, SERVER, TCP_SYN);
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	fill(&reset, CLIENT, TO_SERVICE, NODE, TCP_RST | TCP_ACK);
	put_open_pod(SERVER);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	EXPECT(stack_sends(skb, &direct) == MALLA_VERDICT_PASS);
	EXPECT(rows_of(&syn, &becomes) == 2);
	EXPECT(outside_sends(&reset, &becomes) == MALLA_VERDICT_TRANSLATED);
	flow = flow_of(&direct);
	EXPECT(flow && flow->flags & MALLA_FLOW_SERVED);
	flow->state = MALLA_FLOW_CLOSED;
	EXPECT(fabric_sends(skb, &direct) == MALLA_VERDICT_PASS);
	EXPECT(!rows_of(&syn, &becomes));
	EXPECT(stack_sends(skb, &direct) == MALLA_VERDICT_PASS);
	flow = flow_of(&direct);
	EXPECT(flow && !(flow->flags & MALLA_FLOW_SERVED));
	return 0;
}

SEC("tc")
int who_dials_a_pod_whose_service_he_has_open_from_one_port_is_refused(struct __sk_buff *skb)
{
	static struct packet direct, syn;
	static struct malla_flow_key becomes, answer;
	struct malla_snat *entry;

	fill(&direct, CLIENT, TO_POD, SERVER, TCP_SYN);
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	put_open_pod(SERVER);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	answer = flow_reversed(&becomes);
	entry = nat_find(&answer, MALLA_NAT_OUT_OF_POD);
	EXPECT(entry);
	entry->state |= NAT_ANSWERED;
	/* Its flow made room for others. */
	EXPECT(fabric_sends(skb, &direct) == MALLA_VERDICT_SNAT_PORTS);
	EXPECT(rows_of(&syn, &becomes) == 2);
	return 0;
}

SEC("tc")
int datagrams_straight_to_a_server_are_never_answered_by_the_service(struct __sk_buff *unused)
{
	static struct packet direct, sent;
	static struct malla_flow_key becomes, then;
	struct malla_end any = end4(0, 30080);
	struct malla_service service = {
	    .inside = {.id = 3, .endpoints = 1},
	    .outside = {.id = 3, .endpoints = 1},
	};
	struct malla_snat *entry;

	(void)unused;
	fill(&direct, CLIENT, TO_POD, NODE, 0);
	fill(&sent, CLIENT, TO_SERVICE, NODE, 0);
	direct.flow.protocol = sent.flow.protocol = any.protocol = IPPROTO_UDP;
	put_open(NODE, 1, 0);
	bpf_map_update_elem(&malla_service, &any, &service, BPF_ANY);
	EXPECT(outside_sends(&sent, &becomes) == MALLA_VERDICT_TRANSLATED);
	EXPECT(outside_sends(&direct, &then) == MALLA_VERDICT_SNAT_PORTS);
	then = flow_reversed(&becomes);
	entry = nat_find(&then, MALLA_NAT_OUT_OF_NODE);
	EXPECT(entry);
	entry->seen_ns -= NAT_UDP_IDLE + NAT_SECOND;
	EXPECT(outside_sends(&direct, &then) == MALLA_VERDICT_PASS);
	EXPECT(!rows_of(&sent, &becomes));
	return 0;
}

/* The endpoint is a server of the node's own. */
__attribute__((noinline)) int put_open_node(void)
{
	put_setting(0);
	put_open(NODE, 1, 0);
	return 0;
}

SEC("tc")
int who_dials_the_nodes_server_after_its_service_is_not_answered_by_the_service(
    struct __sk_buff *unused)
{
	static struct packet direct, syn, reset;
	static struct malla_flow_key becomes, then, answer;
	struct malla_snat *entry;

	(void)unused;
	fill(&direct, CLIENT, TO_POD, NODE, TCP_SYN);
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	fill(&reset, CLIENT, TO_SERVICE, NODE, TCP_RST | TCP_ACK);
	put_open_node();
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	answer = flow_reversed(&becomes);
	entry = nat_find(&answer, MALLA_NAT_OUT_OF_NODE);
	EXPECT(entry);
	entry->state |= NAT_ANSWERED;
	EXPECT(outside_sends(&direct, &then) == MALLA_VERDICT_SNAT_PORTS);
	EXPECT(rows_of(&syn, &becomes) == 2);
	EXPECT(outside_sends(&reset, &then) == MALLA_VERDICT_TRANSLATED);
	EXPECT(outside_sends(&direct, &then) == MALLA_VERDICT_PASS);
	EXPECT(!rows_of(&syn, &becomes));
	return 0;
}

SEC("tc")
int who_dials_again_from_a_port_that_was_reset_gets_an_endpoint_of_now(struct __sk_buff *unused)
{
	static struct packet syn, reset;
	static struct malla_flow_key first, then;

	(void)unused;
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	fill(&reset, CLIENT, TO_SERVICE, NODE, TCP_RST | TCP_ACK);
	put_open_pod(SERVER);
	EXPECT(outside_sends(&syn, &first) == MALLA_VERDICT_TRANSLATED);
	EXPECT(outside_sends(&reset, &then) == MALLA_VERDICT_TRANSLATED);
	put_open_pod(REMOTE_POD);
	EXPECT(outside_sends(&syn, &then) == MALLA_VERDICT_TRANSLATED);
	EXPECT(then.target.words_be[3] == bpf_htonl(REMOTE_POD));
	first = flow_reversed(&first);
	EXPECT(!nat_find(&first, MALLA_NAT_OUT_OF_POD));
	return 0;
}

SEC("tc")
int who_dials_again_after_both_have_ended_gets_an_endpoint_of_now(struct __sk_buff *unused)
{
	static struct packet syn, end;
	static struct malla_flow_key first, then;
	struct malla_snat *answer;

	(void)unused;
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	fill(&end, CLIENT, TO_SERVICE, NODE, TCP_FIN | TCP_ACK);
	put_open_pod(SERVER);
	EXPECT(outside_sends(&syn, &first) == MALLA_VERDICT_TRANSLATED);
	EXPECT(outside_sends(&end, &then) == MALLA_VERDICT_TRANSLATED);
	put_open_pod(REMOTE_POD);
	EXPECT(outside_sends(&syn, &then) == MALLA_VERDICT_TRANSLATED);
	EXPECT(then.target.words_be[3] == bpf_htonl(SERVER));
	first = flow_reversed(&first);
	answer = nat_find(&first, MALLA_NAT_OUT_OF_POD);
	EXPECT(answer);
	answer->state |= NAT_FINISHED;
	EXPECT(outside_sends(&syn, &then) == MALLA_VERDICT_TRANSLATED);
	EXPECT(then.target.words_be[3] == bpf_htonl(REMOTE_POD));
	return 0;
}

SEC("tc")
int a_syn_that_comes_again_keeps_nothing_alive(struct __sk_buff *unused)
{
	struct packet packet = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	struct malla_snat entry = {.seen_ns = 1};

	(void)unused;
	nat_note(&entry, &packet);
	EXPECT(entry.seen_ns == 1);
	packet.flags = TCP_ACK;
	nat_note(&entry, &packet);
	EXPECT(entry.seen_ns != 1);
	return 0;
}

SEC("tc")
int a_node_without_an_address_of_the_family_dials_nobody(struct __sk_buff *unused)
{
	static struct packet syn;
	static struct malla_flow_key becomes;
	struct malla_node none = {.flags = MALLA_NODE_SERVES};
	__u32 first = 0;

	(void)unused;
	syn = packet_between(end4(CLIENT, 5000), end4(NODE, 30080), TCP_SYN);
	put_open(REMOTE_POD, 1, 0);
	bpf_map_update_elem(&malla_node, &first, &none, BPF_ANY);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_NO_SOURCE);
	return 0;
}

SEC("tc")
int a_connection_whose_pod_is_gone_is_refused_at_its_next_packet(struct __sk_buff *unused)
{
	static struct packet syn, ack;
	static struct malla_flow_key becomes;
	struct malla_snat *entry;

	(void)unused;
	fill(&syn, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	fill(&ack, CLIENT, TO_SERVICE, NODE, TCP_ACK);
	put_open_pod(SERVER);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	entry = nat_find(&syn.flow, MALLA_NAT_FROM_FABRIC);
	EXPECT(entry);
	entry->state |= NAT_CUT;
	EXPECT(outside_sends(&ack, &becomes) == MALLA_VERDICT_NO_ENDPOINT);
	EXPECT(outside_sends(&syn, &becomes) == MALLA_VERDICT_TRANSLATED);
	return 0;
}

/* It is sent once more, with so many bytes. */
__attribute__((noinline)) int passes(struct packet *packet, __u32 bytes, __u32 segments)
{
	struct malla_flow_key becomes;
	if (!packet)
		return MALLA_VERDICT_FAILED;
	packet->bytes = bytes;
	packet->segments = segments;
	return outside_sends(packet, &becomes);
}

SEC("tc")
int both_directions_of_a_flow_to_another_nodes_pod_are_counted(struct __sk_buff *unused)
{
	static struct packet sent, answer;
	static struct malla_flow_key becomes;
	struct malla_snat *entry;

	(void)unused;
	put_open(REMOTE_POD, 1, 0);
	fill(&sent, CLIENT, TO_SERVICE, NODE, TCP_SYN);
	sent.segments = 1;
	sent.bytes = 60;
	EXPECT(outside_sends(&sent, &becomes) == MALLA_VERDICT_TRANSLATED);
	answer.flow = flow_reversed(&becomes);
	answer.flags = TCP_SYN | TCP_ACK;
	EXPECT(passes(&answer, 52, 1) == MALLA_VERDICT_TRANSLATED_BACK);
	EXPECT(passes(&sent, 60, 1) == MALLA_VERDICT_TRANSLATED); /* the SYN again */
	sent.flags = TCP_ACK;
	EXPECT(passes(&sent, 3000, 3) == MALLA_VERDICT_TRANSLATED);
	sent.is_fragment = 1;
	EXPECT(passes(&sent, 500, 1) == MALLA_VERDICT_TRANSLATED);
	sent.is_icmp = 1;
	EXPECT(passes(&sent, 80, 1) == MALLA_VERDICT_TRANSLATED); /* about it, not of it */
	entry = nat_find(&sent.flow, MALLA_NAT_FROM_FABRIC);
	EXPECT(entry && !(entry->state & NAT_BACK) && entry->packets == 6 && entry->bytes == 3620);
	entry = nat_find(&answer.flow, MALLA_NAT_FROM_REMOTE);
	EXPECT(entry && entry->state & NAT_BACK && entry->packets == 1 && entry->bytes == 52);
	return 0;
}
