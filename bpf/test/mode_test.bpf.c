/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Who may open plain connections to pods that insist on mutual TLS, and what
 * tunnels carry. */
#include "test/cores.h"

#define CLIENT 0xc6336401 /* 198.51.100.1, of the world */
#define REMOTE 0x0a02000a /* 10.2.0.10, a pod of another node */

static __always_inline void put_insisting(__u32 flags, __u32 generation)
{
	put_generation(generation, MALLA_SETTING_HBONE);
	put_server(MALLA_POD_MESHED | flags);
	put_quota(0, 64);
}

static __always_inline void put_mode(__u16 port, __u32 mode)
{
	struct malla_mode_key key = {.endpoint = 2, .port_be = bpf_htons(port)};

	bpf_map_update_elem(&malla_mode, &key, &mode, BPF_ANY);
}

static __always_inline void put_peer(void)
{
	struct malla_end remote = end4(REMOTE, 0);
	__u32 flags = MALLA_PEER_HBONE;

	bpf_map_update_elem(&malla_peer, &remote.address, &flags, BPF_ANY);
}

/* A function of its own, as in expect.h; so are the next. */
__attribute__((noinline)) int put_far_mode(__u16 port, __u32 mode)
{
	struct malla_mode_key key = {.endpoint = MALLA_MODE_FAR | 5, .port_be = bpf_htons(port)};

	return (int)bpf_map_update_elem(&malla_mode, &key, &mode, BPF_ANY);
}

/* The kernel's map had no room for some pod of this block. */
__attribute__((noinline)) int put_unlisted(__u32 bits)
{
	struct malla_prefix key = {.prefix_bits = bits,
				   .address = end4(REMOTE & ~0xffu, 0).address};
	__u32 one = 1;

	return (int)bpf_map_update_elem(&malla_unlisted, &key, &one, BPF_ANY);
}

/* A node, whose address is within that block. */
__attribute__((noinline)) int put_node(void)
{
	struct malla_end node = end4(REMOTE + 2, 0);
	__u32 flags = 0;

	return (int)bpf_map_update_elem(&malla_peer, &node.address, &flags, BPF_ANY);
}

/* The engine is gone. A function of its own, as in expect.h. */
__attribute__((noinline)) int put_absent(__u32 flags)
{
	struct malla_setting values = {.node_cookie = 1, .generation = 1, .flags = flags};
	__u32 first = 0;

	return (int)bpf_map_update_elem(&malla_setting, &first, &values, BPF_ANY);
}

SEC("tc")
int plain_text_is_refused_from_outside_and_from_pods_outside_of_the_mesh(struct __sk_buff *skb)
{
	static struct packet syn;

	put_pod(0);
	put_insisting(MALLA_POD_STRICT, 1);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(!flow_of(&syn));
	syn = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	/* The address of a pod here does not help who comes from elsewhere. */
	put_pod(MALLA_POD_MESHED);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_SPOOFED);
	return 0;
}

SEC("tc")
int the_nodes_own_pods_in_the_mesh_and_its_probes_are_vouched_for(struct __sk_buff *skb)
{
	static struct packet syn;

	put_pod(MALLA_POD_MESHED);
	put_insisting(MALLA_POD_STRICT, 1);
	syn = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	/* No interface has brought it. */
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(stack_sends(skb, &syn) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int ports_may_differ_from_their_pod(struct __sk_buff *skb)
{
	static struct packet syn;

	put_insisting(MALLA_POD_STRICT | MALLA_POD_MODES, 1);
	put_mode(9090, MALLA_MODE_OPEN);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 9090), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	syn.flow.target_port_be = bpf_htons(8080);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PLAIN_REFUSED);
	put_insisting(MALLA_POD_MODES, 1);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	put_mode(8080, MALLA_MODE_STRICT);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PLAIN_REFUSED);
	return 0;
}

SEC("tc")
int what_policies_deny_is_theirs_to_name(struct __sk_buff *skb)
{
	static struct packet syn;
	struct malla_end server = end4(SERVER, 0);
	struct malla_pod value = {
	    .interface = OTHER_INTERFACE,
	    .endpoint = 2,
	    .set = 1,
	    .flags = MALLA_POD_MESHED | MALLA_POD_STRICT,
	};

	put_pod(0);
	put_insisting(0, 1);
	bpf_map_update_elem(&malla_pod, &server.address, &value, BPF_ANY);
	put_set(1, 0);
	syn = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_DENIED_INGRESS);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	/* Left to be denied at the pod. */
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	syn = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	put_policy(MALLA_IDENTITY_WORLD, MALLA_INGRESS, 8080, MALLA_POLICY_EXACT_BITS,
		   MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	syn = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PLAIN_REFUSED);
	return 0;
}

SEC("tc")
int a_pod_that_begins_to_insist_loses_plain_connections_and_no_others(struct __sk_buff *skb)
{
	static struct packet plain, vouched, answer;

	put_pod(0);
	put_insisting(0, 1);
	plain = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_SYN);
	answer = packet_between(end4(SERVER, 8080), end4(POD, 40000), TCP_SYN | TCP_ACK);
	EXPECT(pod_sends(skb, &plain, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	put_pod(MALLA_POD_MESHED);
	vouched = packet_between(end4(POD, 40001), end4(SERVER, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &vouched, POD_INTERFACE) == MALLA_VERDICT_DIRECT);

	put_insisting(MALLA_POD_STRICT, 2);
	plain.flags = TCP_ACK;
	vouched.flags = TCP_ACK;
	EXPECT(pod_sends(skb, &plain, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(pod_sends(skb, &answer, OTHER_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(pod_sends(skb, &vouched, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int what_such_a_pod_opens_itself_goes_on(struct __sk_buff *skb)
{
	static struct packet syn, answer;

	put_pod(0);
	put_insisting(0, 1);
	syn = packet_between(end4(SERVER, 40000), end4(POD, 8080), TCP_SYN);
	answer = packet_between(end4(POD, 8080), end4(SERVER, 40000), TCP_ACK);
	EXPECT(pod_sends(skb, &syn, OTHER_INTERFACE) == MALLA_VERDICT_DIRECT);
	put_insisting(MALLA_POD_STRICT, 2);
	EXPECT(pod_sends(skb, &answer, POD_INTERFACE) == MALLA_VERDICT_DIRECT);
	return 0;
}

SEC("tc")
int what_a_tunnel_brought_is_not_plain(struct __sk_buff *skb)
{
	static struct packet tunnel, dial;
	struct ends ends = {.target = OTHER_INTERFACE};

	put_insisting(MALLA_POD_STRICT, 1);
	tunnel = packet_between(end4(REMOTE, 61001), end4(SERVER, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(fabric_sends(skb, &tunnel) == MALLA_VERDICT_CAPTURED);
	dial = packet_between(end4(REMOTE, 63268), end4(SERVER, 8080), TCP_SYN);
	EXPECT(engine_sends(&dial, &ends) == MALLA_VERDICT_PASS);
	put_insisting(MALLA_POD_STRICT, 2);
	dial.flags = TCP_ACK;
	EXPECT(engine_sends(&dial, &ends) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int what_a_pod_opens_to_a_peer_is_carried(struct __sk_buff *skb)
{
	static struct packet syn, ack;

	put_insisting(0, 1);
	put_peer();
	put_pod(MALLA_POD_MESHED);
	syn = packet_between(end4(POD, 40000), end4(REMOTE, 5432), TCP_SYN);
	ack = packet_between(end4(POD, 40000), end4(REMOTE, 5432), TCP_ACK);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PASS);
	/* Only where the pod has an identity to show. */
	syn.flow.source_port_be = bpf_htons(40001);
	ack.flow.source_port_be = bpf_htons(40001);
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	syn = packet_between(end4(POD, 40002), end4(CLIENT, 5432), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PASS);
	/* To a pod the port of tunnels is one like any other. */
	syn = packet_between(end4(POD, 40004), end4(REMOTE, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	/* Without an engine it is refused: never plain text instead. */
	syn = packet_between(end4(POD, 40003), end4(REMOTE, 5432), TCP_SYN);
	put_absent(MALLA_SETTING_HBONE);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_ENGINE_REFUSED);
	return 0;
}

/* A service whose one endpoint is at the remote pod. */
__attribute__((noinline)) int put_far_service(__u32 flags)
{
	struct malla_end remote = end4(REMOTE, 5432);
	struct malla_endpoint_key slot = {.group = 3};

	put_service(flags, 1);
	return (int)bpf_map_update_elem(&malla_endpoint, &slot, &remote, BPF_ANY);
}

__attribute__((noinline)) int put_exclusion(__u16 port)
{
	struct malla_exclude key = {.prefix_bits = 64, .endpoint = 1, .port_be = bpf_htons(port)};
	__u32 any = MALLA_EXCLUDE_ANY;

	return (int)bpf_map_update_elem(&malla_exclude, &key, &any, BPF_ANY);
}

SEC("tc")
int what_a_pod_excludes_by_the_endpoint_is_plain_and_by_the_service_is_not(struct __sk_buff *skb)
{
	static struct packet syn;

	put_insisting(0, 1);
	put_peer();
	put_far_service(MALLA_SERVICE_CAPTURED);
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS | MALLA_POD_EXCLUDES);
	put_exclusion(80);
	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	EXPECT(syn.flow.target.words_be[3] == bpf_htonl(REMOTE));
	put_exclusion(5432);
	syn = packet_between(end4(POD, 40001), end4(SERVICE, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	/* As one does that opens tunnels itself. */
	put_exclusion(MALLA_HBONE_PORT);
	syn = packet_between(end4(POD, 40002), end4(REMOTE, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int what_a_full_map_left_out_is_the_engines_and_never_plain_text(struct __sk_buff *skb)
{
	static struct packet packet;

	put_insisting(0, 1);
	put_unlisted(120);
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS);
	packet = packet_between(end4(POD, 40000), end4(REMOTE, 5432), TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	packet.flow.target.words_be[3] = bpf_htonl(REMOTE + 0x100);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	/* A row of its own says more than its block. */
	put_far(REMOTE, 0);
	packet = packet_between(end4(POD, 40001), end4(REMOTE, 5432), TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	packet = packet_between(end4(POD, 40003), end4(REMOTE + 2, 6443), TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	put_node();
	packet.flow.source_port_be = bpf_htons(40004);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PASS);
	packet = packet_between(end4(POD, 40002), end4(REMOTE + 1, 5432), TCP_SYN);
	put_absent(MALLA_SETTING_HBONE);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_ENGINE_REFUSED);
	return 0;
}

SEC("tc")
int plain_text_to_a_pod_that_insists_and_has_no_agent_is_refused_here(struct __sk_buff *skb)
{
	static struct packet syn;

	put_insisting(0, 1);
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS);
	put_far(REMOTE, MALLA_PEER_STRICT);
	syn = packet_between(end4(POD, 40000), end4(REMOTE, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(!flow_of(&syn));
	/* What passes through the node to such a pod is not its clients'. */
	syn = packet_between(end4(CLIENT, 40000), end4(REMOTE, 8080), TCP_SYN);
	EXPECT(fabric_sends(skb, &syn) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int the_engine_dials_no_pod_in_plain_text_that_insists_and_has_no_agent(struct __sk_buff *skb)
{
	static struct packet syn;
	struct ends ends = {.source = POD_INTERFACE};

	(void)skb;
	put_insisting(0, 1);
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS);
	put_far(REMOTE, MALLA_PEER_STRICT);
	syn = packet_between(end4(POD, 61000), end4(REMOTE, 8080), TCP_SYN);
	EXPECT(engine_sends(&syn, &ends) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(!flow_of(&syn));
	return 0;
}

SEC("tc")
int ports_of_a_pod_elsewhere_may_differ(struct __sk_buff *skb)
{
	static struct packet syn;

	put_insisting(0, 1);
	put_pod(MALLA_POD_MESHED);
	put_far_mode(9090, MALLA_MODE_OPEN);
	put_far(REMOTE, MALLA_PEER_STRICT | MALLA_PEER_MODES | 5 << MALLA_PEER_SHIFT);
	syn = packet_between(end4(POD, 40000), end4(REMOTE, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	syn.flow.target_port_be = bpf_htons(9090);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PASS);
	put_far_mode(9091, MALLA_MODE_STRICT);
	put_far(REMOTE, MALLA_PEER_MODES | 5 << MALLA_PEER_SHIFT);
	syn.flow.target_port_be = bpf_htons(9091);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	return 0;
}

SEC("tc")
int a_pod_elsewhere_that_begins_to_insist_loses_what_is_plain(struct __sk_buff *skb)
{
	static struct packet own, dialled, back, answer;
	struct ends ends = {.source = POD_INTERFACE};

	put_insisting(0, 1);
	put_pod(0);
	put_far(REMOTE, 0);
	own = packet_between(end4(POD, 40000), end4(REMOTE, 8080), TCP_SYN);
	EXPECT(pod_sends(skb, &own, POD_INTERFACE) == MALLA_VERDICT_PASS);
	dialled = packet_between(end4(POD, 61000), end4(REMOTE, 8080), TCP_SYN);
	EXPECT(engine_sends(&dialled, &ends) == MALLA_VERDICT_PASS);
	/* What that pod has opened itself goes on. */
	back = packet_between(end4(REMOTE, 40000), end4(POD, 8080), TCP_SYN);
	EXPECT(stack_sends(skb, &back) == MALLA_VERDICT_PASS);

	put_far(REMOTE, MALLA_PEER_STRICT);
	put_generation(2, MALLA_SETTING_HBONE);
	own.flags = TCP_ACK;
	dialled.flags = TCP_ACK;
	EXPECT(pod_sends(skb, &own, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(engine_sends(&dialled, &ends) == MALLA_VERDICT_PLAIN_REFUSED);
	answer = packet_between(end4(POD, 8080), end4(REMOTE, 40000), TCP_ACK);
	EXPECT(pod_sends(skb, &answer, POD_INTERFACE) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int the_tunnel_to_what_a_full_map_left_out_is_no_connection_of_the_pods(struct __sk_buff *skb)
{
	static struct packet packet;
	const struct malla_flow *flow;
	struct ends ends = {.source = POD_INTERFACE};

	(void)skb;
	put_insisting(0, 1);
	put_unlisted(120);
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS);
	packet = packet_between(end4(POD, 61000), end4(REMOTE, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(engine_sends(&packet, &ends) == MALLA_VERDICT_PASS);
	flow = flow_of(&packet);
	EXPECT(flow && flow->flags & MALLA_FLOW_TUNNEL);
	return 0;
}

static __always_inline int comes_from_service(const struct packet *packet)
{
	struct malla_end service = end4(SERVICE, 80);

	return address_is_equal(&packet->flow.target, &service.address) &&
	       packet->flow.target_port_be == service.port_be;
}

SEC("tc")
int the_reset_of_what_was_open_comes_from_the_service_too(struct __sk_buff *skb)
{
	static struct packet packet;

	put_insisting(0, 1);
	put_pod(0);
	put_far(REMOTE, 0);
	put_far_service(0);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	put_far(REMOTE, MALLA_PEER_STRICT);
	put_generation(2, MALLA_SETTING_HBONE);
	packet = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);
	EXPECT(pod_sends(skb, &packet, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(comes_from_service(&packet));
	return 0;
}

SEC("tc")
int the_reset_of_what_is_not_carried_comes_from_the_service(struct __sk_buff *skb)
{
	static struct packet syn;

	put_insisting(0, 1);
	put_peer();
	put_far_service(0);
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS);
	put_absent(MALLA_SETTING_HBONE);
	syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_ENGINE_REFUSED);
	EXPECT(comes_from_service(&syn));
	return 0;
}

SEC("tc")
int the_rest_of_a_plain_connection_is_plain_text_too(struct __sk_buff *skb)
{
	static struct malla_end server;
	static struct malla_pod value = {
	    .interface = OTHER_INTERFACE, .endpoint = 2, .flags = MALLA_POD_MESHED, .netns = 1};
	static struct packet ack;
	const struct malla_flow *flow;

	server = end4(SERVER, 0);
	put_pod(0);
	put_insisting(0, 1);
	bpf_map_update_elem(&malla_pod, &server.address, &value, BPF_ANY);
	/* Its entry has made room. */
	ack = packet_between(end4(POD, 40000), end4(SERVER, 8080), TCP_ACK);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_PASS);
	flow = flow_of(&ack);
	EXPECT(flow && flow->flags & MALLA_FLOW_PLAIN);
	value.flags = MALLA_POD_MESHED | MALLA_POD_STRICT;
	bpf_map_update_elem(&malla_pod, &server.address, &value, BPF_ANY);
	put_generation(2, MALLA_SETTING_HBONE);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	ack.flow.source_port_be = bpf_htons(40001);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_PLAIN_REFUSED);
	EXPECT(!flow_of(&ack));
	/* The pod's own answer is no way around it, to whomever this node does not vouch for. */
	ack = packet_between(end4(SERVER, 8080), end4(CLIENT, 40002), TCP_ACK);
	EXPECT(inbound_rests(skb, &ack, STREAM_BACK) == MALLA_VERDICT_PLAIN_REFUSED);
	ack.flow.target = end4(POD, 0).address;
	put_pod(MALLA_POD_MESHED);
	EXPECT(inbound_rests(skb, &ack, STREAM_BACK) == INBOUND_NOT);
	EXPECT(!ack.marks);
	return 0;
}

/* Of a list's ports only the one that was dialled counts. */
SEC("tc")
int a_client_at_a_port_of_its_own_pods_list_is_no_server(struct __sk_buff *skb)
{
	static struct malla_end server;
	static struct malla_pod value = {.interface = OTHER_INTERFACE,
					 .endpoint = 2,
					 .flags = MALLA_POD_MESHED | MALLA_POD_MODES,
					 .netns = 1};
	static struct packet packet;

	server = end4(SERVER, 0);
	put_insisting(0, 1);
	bpf_map_update_elem(&malla_pod, &server.address, &value, BPF_ANY);
	put_mode(40000, MALLA_MODE_STRICT);
	put_far(REMOTE, MALLA_PEER_MODES | 5 << MALLA_PEER_SHIFT);
	put_far_mode(40000, MALLA_MODE_STRICT);
	/* A pod elsewhere has dialled from that port; then somebody dials it there. */
	packet = packet_between(end4(SERVER, 8080), end4(REMOTE, 40000), TCP_ACK);
	packet.hook = MALLA_HOOK_FROM_POD;
	EXPECT(inbound_rests(skb, &packet, STREAM_BACK) == INBOUND_NOT);
	EXPECT(inbound_rests(skb, &packet, STREAM_FORTH) == MALLA_VERDICT_PLAIN_REFUSED);
	/* The same of a pod here. */
	packet = packet_between(end4(REMOTE, 8080), end4(SERVER, 40000), TCP_ACK);
	packet.hook = MALLA_HOOK_UPLINK;
	EXPECT(inbound_rests(skb, &packet, STREAM_BACK) == INBOUND_NOT);
	EXPECT(inbound_rests(skb, &packet, STREAM_FORTH) == MALLA_VERDICT_PLAIN_REFUSED);
	return 0;
}

SEC("tc")
int what_the_engine_answers_on_is_what_it_was_when_its_entry_comes_back(struct __sk_buff *skb)
{
	static struct packet answer;
	const struct malla_flow *flow;
	struct ends ends = {};

	(void)skb;
	put_insisting(0, 1);
	put_peer();
	put_pod(MALLA_POD_MESHED | MALLA_POD_TUNNELS);
	/* Of what it carries to a peer, of a pod's tunnel, and of plain text from outside. */
	answer = packet_between(end4(REMOTE, 5432), end4(POD, 40000), TCP_ACK);
	EXPECT(engine_sends(&answer, &ends) == MALLA_VERDICT_PASS);
	flow = flow_of(&answer);
	EXPECT(flow && flow->kind == MALLA_FLOW_CAPTURED && flow->flags & MALLA_FLOW_CARRIED);
	answer = packet_between(end4(SERVER, MALLA_HBONE_PORT), end4(REMOTE, 40000), TCP_ACK);
	ends = (struct ends){};
	EXPECT(engine_sends(&answer, &ends) == MALLA_VERDICT_PASS);
	flow = flow_of(&answer);
	EXPECT(flow && flow->flags & MALLA_FLOW_TUNNEL);
	answer = packet_between(end4(SERVER, 8080), end4(CLIENT, 40000), TCP_ACK);
	ends = (struct ends){};
	EXPECT(engine_sends(&answer, &ends) == MALLA_VERDICT_PASS);
	flow = flow_of(&answer);
	EXPECT(flow && flow->flags & MALLA_FLOW_PLAIN);
	/* What has changed meanwhile counts at the next packet. */
	put_insisting(MALLA_POD_STRICT, 1);
	answer = packet_between(end4(CLIENT, 40000), end4(SERVER, 8080), TCP_ACK);
	EXPECT(fabric_sends(skb, &answer) == MALLA_VERDICT_PLAIN_REFUSED);
	return 0;
}

SEC("tc")
int policies_are_asked_about_what_is_carried_and_not_about_the_tunnel(struct __sk_buff *skb)
{
	static struct packet syn, ack, tunnel;
	static struct malla_end pod;
	static struct malla_pod value = {
	    .interface = POD_INTERFACE,
	    .endpoint = 1,
	    .set = 1,
	    .flags = MALLA_POD_MESHED | MALLA_POD_TUNNELS,
	};
	struct ends ends = {.source = POD_INTERFACE};

	pod = end4(POD, 0);
	put_pod(0);
	put_insisting(0, 1);
	put_peer();
	bpf_map_update_elem(&malla_pod, &pod.address, &value, BPF_ANY);
	put_set(1, 0);
	syn = packet_between(end4(POD, 40000), end4(REMOTE, 5432), TCP_SYN);
	ack = packet_between(end4(POD, 40000), end4(REMOTE, 5432), TCP_ACK);
	tunnel = packet_between(end4(POD, 61000), end4(REMOTE, MALLA_HBONE_PORT), TCP_SYN);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_DENIED_EGRESS);
	EXPECT(engine_sends(&tunnel, &ends) == MALLA_VERDICT_PASS);
	put_policy(MALLA_IDENTITY_WORLD, MALLA_EGRESS, 5432, MALLA_POLICY_EXACT_BITS,
		   MALLA_POLICY_ALLOW);
	EXPECT(pod_sends(skb, &syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	put_policy(MALLA_IDENTITY_WORLD, MALLA_EGRESS, 5432, MALLA_POLICY_EXACT_BITS,
		   MALLA_POLICY_DENY);
	put_generation(2, MALLA_SETTING_HBONE);
	EXPECT(pod_sends(skb, &ack, POD_INTERFACE) == MALLA_VERDICT_CUT);
	tunnel.flags = TCP_ACK;
	EXPECT(engine_sends(&tunnel, &ends) == MALLA_VERDICT_PASS);
	/* The pod's interface was made anew. */
	value.interface = OTHER_INTERFACE;
	bpf_map_update_elem(&malla_pod, &pod.address, &value, BPF_ANY);
	put_generation(3, MALLA_SETTING_HBONE);
	for (int time = 0; time < 2; time++) {
		ends.source = 0;
		EXPECT(engine_sends(&tunnel, &ends) == MALLA_VERDICT_PASS);
		EXPECT(ends.source == OTHER_INTERFACE && !ends.target);
	}
	return 0;
}
