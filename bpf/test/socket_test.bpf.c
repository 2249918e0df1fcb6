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
