/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Services for those outside, and of pods past the socket hooks: what is chosen and recorded. */
#include "test/expect.h"

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
	put_server();
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
	put_server();
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
	put_server();
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
