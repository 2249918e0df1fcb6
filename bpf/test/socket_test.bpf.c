/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The cores of the cgroup hooks, which the kernel does not run by BPF_PROG_TEST_RUN. */
#include "test/expect.h"

SEC("tc")
int a_services_address_becomes_an_endpoints(struct __sk_buff *unused)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = 2};
	struct malla_end end = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	EXPECT(socket_balance(&socket, &end) == MALLA_VERDICT_PASS);
	EXPECT(end.port_be == bpf_htons(80));

	put_service(0, 1);
	EXPECT(socket_balance(&socket, &end) == MALLA_VERDICT_BALANCED);
	EXPECT(end.address.words_be[3] == bpf_htonl(SERVER));
	EXPECT(end.port_be == bpf_htons(8080));
	return 0;
}

SEC("tc")
int the_application_sees_what_it_dialled(struct __sk_buff *unused)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = 2};
	struct malla_end end = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(0, 1);
	EXPECT(socket_balance(&socket, &end) == MALLA_VERDICT_BALANCED);

	EXPECT(socket_restore(8, &end) == MALLA_VERDICT_PASS); /* another socket */
	EXPECT(socket_restore(9, &end) == MALLA_VERDICT_RESTORED);
	EXPECT(end.address.words_be[3] == bpf_htonl(SERVICE));
	EXPECT(end.port_be == bpf_htons(80));
	return 0;
}

SEC("tc")
int a_captured_service_is_left_alone_for_pods_and_balanced_for_the_node(struct __sk_buff *unused)
{
	struct socket pods = {.cookie = 9, .namespace_cookie = 2};
	struct socket nodes = {.cookie = 10, .namespace_cookie = 1};
	struct malla_end end = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	EXPECT(socket_balance(&pods, &end) == MALLA_VERDICT_LEFT_CAPTURED);
	EXPECT(end.port_be == bpf_htons(80));
	EXPECT(socket_balance(&nodes, &end) == MALLA_VERDICT_BALANCED);
	EXPECT(end.port_be == bpf_htons(8080));
	return 0;
}

SEC("tc")
int a_service_without_endpoints_is_refused(struct __sk_buff *unused)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = 2};
	struct malla_end end = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(0, 0);
	EXPECT(socket_balance(&socket, &end) == MALLA_VERDICT_NO_ENDPOINT);
	EXPECT(end.port_be == bpf_htons(80));
	return 0;
}

SEC("tc")
int the_agents_own_sockets_are_never_balanced(struct __sk_buff *unused)
{
	struct malla_setting values = {.node_cookie = 1, .agent_cgroup = 44, .agent_process = 55};
	struct socket by_cgroup = {.namespace_cookie = 1, .cgroup = 44};
	struct socket by_process = {.namespace_cookie = 1, .process = 55};
	struct malla_end end = end4(SERVICE, 80);
	__u32 first = 0;

	(void)unused;
	bpf_map_update_elem(&malla_setting, &first, &values, BPF_ANY);
	put_service(0, 1);
	EXPECT(socket_balance(&by_cgroup, &end) == MALLA_VERDICT_OWN_SOCKET);
	EXPECT(socket_balance(&by_process, &end) == MALLA_VERDICT_OWN_SOCKET);
	return 0;
}

#define NODE	   0x0a000001 /* 10.0.0.1 */
#define OTHER_NODE 0x0a000002 /* 10.0.0.2 */

/* A node port 30080 whose endpoint is SERVER:8080, and two nodes. */
static __always_inline void put_node_port(__u32 flags)
{
	struct malla_end any = end4(0, 30080);
	struct malla_end node = end4(NODE, 0), other = end4(OTHER_NODE, 0);
	struct malla_service service = {.inside = {.id = 3, .endpoints = 1}, .flags = flags};
	__u32 own = MALLA_NEAR_OWN, another = MALLA_NEAR_OTHER;

	put_service(0, 1);
	bpf_map_update_elem(&malla_service, &any, &service, BPF_ANY);
	bpf_map_update_elem(&malla_near, &node.address, &own, BPF_ANY);
	bpf_map_update_elem(&malla_near, &other.address, &another, BPF_ANY);
}

SEC("tc")
int a_node_port_is_found_at_every_nodes_address(struct __sk_buff *unused)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = 2};
	struct malla_end own = end4(NODE, 30080), other = end4(OTHER_NODE, 30080);
	struct malla_end stranger = end4(SERVER, 30080);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_node_port(0);
	EXPECT(socket_balance(&socket, &own) == MALLA_VERDICT_BALANCED);
	EXPECT(own.port_be == bpf_htons(8080));
	EXPECT(socket_balance(&socket, &other) == MALLA_VERDICT_BALANCED);
	EXPECT(socket_balance(&socket, &stranger) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int with_policy_local_another_nodes_port_is_that_nodes(struct __sk_buff *unused)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = 2};
	struct malla_end own = end4(NODE, 30080), other = end4(OTHER_NODE, 30080);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_node_port(MALLA_SERVICE_THIS_NODE);
	EXPECT(socket_balance(&socket, &own) == MALLA_VERDICT_BALANCED);
	EXPECT(socket_balance(&socket, &other) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int loopback_is_the_nodes_for_the_nodes_own_sockets_only(struct __sk_buff *unused)
{
	struct socket pods = {.cookie = 9, .namespace_cookie = 2};
	struct socket nodes = {.cookie = 10, .namespace_cookie = 1};
	struct malla_end end = end4(0x7f000001, 30080);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_node_port(MALLA_SERVICE_THIS_NODE);
	EXPECT(socket_balance(&pods, &end) == MALLA_VERDICT_PASS);
	EXPECT(socket_balance(&nodes, &end) == MALLA_VERDICT_BALANCED);
	return 0;
}

/* Linux takes 0.0.0.0 and :: for loopback; a node port's row has that address too. */
SEC("tc")
int who_dials_no_address_reaches_himself(struct __sk_buff *unused)
{
	struct socket pods = {.cookie = 9, .namespace_cookie = 2};
	struct socket nodes = {.cookie = 10, .namespace_cookie = 1};
	struct malla_end end = end4(0, 30080);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_node_port(0);
	EXPECT(socket_balance(&pods, &end) == MALLA_VERDICT_PASS);
	EXPECT(end.port_be == bpf_htons(30080));
	EXPECT(!service_meant_outside(&end));
	EXPECT(socket_balance(&nodes, &end) == MALLA_VERDICT_BALANCED);
	return 0;
}

SEC("tc")
int a_service_with_source_ranges_is_left_to_the_pods_interface(struct __sk_buff *unused)
{
	struct socket pods = {.cookie = 9, .namespace_cookie = 2};
	struct socket nodes = {.cookie = 10, .namespace_cookie = 1};
	struct malla_end end = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_RANGED, 1);
	EXPECT(socket_balance(&pods, &end) == MALLA_VERDICT_LEFT_RANGED);
	/* Whose address nobody knows. */
	EXPECT(socket_balance(&nodes, &end) == MALLA_VERDICT_SOURCE_REFUSED);
	return 0;
}

/* The ranges of SERVICE:80 hold this address only. */
static __always_inline void put_admitted(__u32 address)
{
	struct malla_end end = end4(address, 0);
	struct malla_range key = {.prefix_bits = 32 + 128, .service = 3, .address = end.address};
	__u32 value = 1;

	bpf_map_update_elem(&malla_range, &key, &value, BPF_ANY);
}

SEC("tc")
int source_ranges_admit_the_node_only_if_they_hold_its_address(struct __sk_buff *unused)
{
	struct socket nodes = {.cookie = 10, .namespace_cookie = 1};
	struct malla_end end = end4(SERVICE, 80), own = end4(NODE, 0);
	struct malla_node node = {.source4 = own.address};
	__u32 first = 0;

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_RANGED | MALLA_SERVICE_CAPTURED, 1);
	bpf_map_update_elem(&malla_node, &first, &node, BPF_ANY);
	put_admitted(OTHER_NODE);
	EXPECT(socket_balance(&nodes, &end) == MALLA_VERDICT_SOURCE_REFUSED);
	EXPECT(end.port_be == bpf_htons(80));
	put_admitted(NODE);
	EXPECT(socket_balance(&nodes, &end) == MALLA_VERDICT_BALANCED);
	return 0;
}

/* SERVICE:80 with four endpoints, 10.1.0.11 and up, and affinity for a minute. */
static __always_inline void put_endpoints(void)
{
	struct malla_end address = end4(SERVICE, 80);
	struct malla_service service = {
	    .inside = {.id = 3, .endpoints = 4},
	    .affinity_seconds = 60,
	};

#pragma unroll
	for (__u32 index = 0; index < 4; index++) {
		__u32 slot = index;
		struct malla_endpoint_key key = {.group = 3, .slot = slot};
		struct malla_member member = {.endpoint = end4(SERVER + slot, 8080), .group = 3};

		bpf_map_update_elem(&malla_endpoint, &key, &member.endpoint, BPF_ANY);
		bpf_map_update_elem(&malla_member, &member, &slot, BPF_ANY);
	}
	bpf_map_update_elem(&malla_service, &address, &service, BPF_ANY);
}

SEC("tc")
int a_client_with_affinity_keeps_its_endpoint(struct __sk_buff *unused)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = 2, .is_connection = 1};
	struct malla_end first = end4(SERVICE, 80), next;
	struct malla_member gone = {.group = 3};

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_endpoints();
	EXPECT(socket_balance(&socket, &first) == MALLA_VERDICT_BALANCED);
#pragma unroll
	for (__u32 choice = 0; choice < 4; choice++) {
		socket.choice = choice;
		next = end4(SERVICE, 80);
		EXPECT(socket_balance(&socket, &next) == MALLA_VERDICT_BALANCED);
		EXPECT(address_is_equal(&next.address, &first.address));
	}
	/* Its endpoint is taken out. */
	gone.endpoint = first;
	bpf_map_delete_elem(&malla_member, &gone);
	socket.choice = 3;
	next = end4(SERVICE, 80);
	EXPECT(socket_balance(&socket, &next) == MALLA_VERDICT_BALANCED);
	EXPECT(!address_is_equal(&next.address, &first.address));
	return 0;
}

/* The client in namespace 2 was given that endpoint so many seconds ago. */
__attribute__((noinline)) int put_affinity(__u32 slot, __u32 seconds)
{
	struct malla_affinity_key client = {.namespace_cookie = 2, .group = 3};
	struct malla_affinity had = {.endpoint = end4(SERVER + slot, 8080)};

	had.seen_ns = bpf_ktime_get_ns() - (__u64)seconds * NAT_SECOND;
	return (int)bpf_map_update_elem(&malla_affinity, &client, &had, BPF_ANY);
}

/* Whether its row says that endpoint, and was written less than so many seconds ago. */
__attribute__((noinline)) int has_affinity(__u32 slot, __u32 seconds)
{
	struct malla_affinity_key client = {.namespace_cookie = 2, .group = 3};
	struct malla_affinity *had = bpf_map_lookup_elem(&malla_affinity, &client);

	return had && had->endpoint.address.words_be[3] == bpf_htonl(SERVER + slot) &&
	       bpf_ktime_get_ns() - had->seen_ns < (__u64)seconds * NAT_SECOND;
}

SEC("tc")
int a_client_that_was_away_for_the_services_time_chooses_anew(struct __sk_buff *unused)
{
	struct socket socket = {.namespace_cookie = 2, .is_connection = 1, .choice = 1};
	struct malla_end end = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_endpoints();
	put_affinity(2, 61);
	EXPECT(!has_affinity(2, 61));
	EXPECT(socket_balance(&socket, &end) == MALLA_VERDICT_BALANCED);
	EXPECT(end.address.words_be[3] == bpf_htonl(SERVER + 1));
	EXPECT(has_affinity(1, 50));
	return 0;
}

SEC("tc")
int a_client_that_comes_back_in_time_keeps_its_endpoint_for_as_long_again(struct __sk_buff *unused)
{
	struct socket socket = {.namespace_cookie = 2, .is_connection = 1, .choice = 1};
	struct malla_end end = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_endpoints();
	put_affinity(2, 55);
	EXPECT(!has_affinity(2, 55));
	EXPECT(socket_balance(&socket, &end) == MALLA_VERDICT_BALANCED);
	EXPECT(end.address.words_be[3] == bpf_htonl(SERVER + 2));
	EXPECT(has_affinity(2, 50));
	return 0;
}

SEC("tc")
int another_client_is_not_bound_by_it(struct __sk_buff *unused)
{
	struct socket one = {.cookie = 9, .namespace_cookie = 2, .is_connection = 1};
	struct socket other = {.cookie = 9, .namespace_cookie = 3, .is_connection = 1, .choice = 1};
	struct malla_end first = end4(SERVICE, 80), second = end4(SERVICE, 80);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_endpoints();
	EXPECT(socket_balance(&one, &first) == MALLA_VERDICT_BALANCED);
	EXPECT(socket_balance(&other, &second) == MALLA_VERDICT_BALANCED);
	EXPECT(!address_is_equal(&first.address, &second.address));
	return 0;
}

SEC("tc")
int a_table_says_which_slot_a_hash_falls_upon(struct __sk_buff *unused)
{
	struct malla_group group = {.id = 3, .endpoints = 4, .positions = 251};
	struct malla_maglev_key key = {.group = 3};
	struct malla_maglev piece = {};

	(void)unused;
	piece.positions[0] = 2;
	piece.positions[250] = 3;
	piece.positions[1] = 77; /* more than there are */
	bpf_map_update_elem(&malla_maglev, &key, &piece, BPF_ANY);
	EXPECT(maglev_slot(&group, 0) == 2);
	EXPECT(maglev_slot(&group, 251 + 250) == 3);
	EXPECT(maglev_slot(&group, 1) < 4);
	group.positions = 0;
	EXPECT(maglev_slot(&group, 7) == 3);
	return 0;
}

/* What a pod's hostPort with hostIP 127.0.0.1 leads to. */
SEC("tc")
int a_pods_own_loopback_is_never_somebody_elses(struct __sk_buff *unused)
{
	struct socket pods = {.cookie = 9, .namespace_cookie = 2, .is_connection = 1};
	struct socket nodes = {.cookie = 10, .namespace_cookie = 1, .is_connection = 1};
	struct malla_end end = end4(0x7f000001, 8080);
	struct malla_service service = {
	    .inside = {.id = 3, .endpoints = 1},
	    .flags = MALLA_SERVICE_THIS_NODE,
	};

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(0, 1);
	bpf_map_update_elem(&malla_service, &end, &service, BPF_ANY);
	EXPECT(socket_balance(&pods, &end) == MALLA_VERDICT_PASS);
	EXPECT(end.address.words_be[3] == bpf_htonl(0x7f000001));
	EXPECT(socket_balance(&nodes, &end) == MALLA_VERDICT_BALANCED);
	return 0;
}

SEC("tc")
int datagrams_of_one_socket_are_answered_by_the_service_that_was_asked_last(
    struct __sk_buff *unused)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = 2};
	struct malla_end end = end4(SERVICE, 80);
	struct malla_end twin = end4(SERVICE + 1, 80);
	struct malla_service service = {.inside = {.id = 3, .endpoints = 1}};

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(0, 1);
	bpf_map_update_elem(&malla_service, &twin, &service, BPF_ANY);
	EXPECT(socket_balance(&socket, &end) == MALLA_VERDICT_BALANCED);
	EXPECT(socket_balance(&socket, &twin) == MALLA_VERDICT_BALANCED);
	EXPECT(socket_restore(9, &twin) == MALLA_VERDICT_RESTORED);
	EXPECT(twin.address.words_be[3] == bpf_htonl(SERVICE + 1));
	return 0;
}

/* What socket_tell tells of a socket of `space`. */
__attribute__((noinline)) int refuse_socket(__u64 space)
{
	struct socket socket = {.cookie = 9, .namespace_cookie = space};
	struct malla_end end = end4(SERVICE, 80);

	socket_tell(MALLA_HOOK_CONNECT4, MALLA_VERDICT_NO_ENDPOINT, &socket, &end);
	return 0;
}

static __always_inline __u64 metered(__u32 row)
{
	__u64 *count = event_meter(row);

	return count ? *count : 0;
}

SEC("tc")
int sockets_of_two_pods_that_are_refused_alike_are_both_told_of(struct __sk_buff *unused)
{
	__u64 first = 2, second = 3;
	__u32 interface = POD_INTERFACE, other = OTHER_INTERFACE;

	(void)unused;
	bpf_map_update_elem(&malla_space, &first, &interface, BPF_ANY);
	bpf_map_update_elem(&malla_space, &second, &other, BPF_ANY);
	refuse_socket(2);
	refuse_socket(2);
	EXPECT(metered(MALLA_METER_WRITTEN) == 1);
	EXPECT(metered(MALLA_METER_REPEATED) == 1);
	refuse_socket(3);
	EXPECT(metered(MALLA_METER_WRITTEN) == 2);
	refuse_socket(4); /* nobody knows whose */
	EXPECT(metered(MALLA_METER_WRITTEN) == 3);
	return 0;
}
