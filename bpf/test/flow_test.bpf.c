/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What from_pod and from_engine decide, and what they leave in the flow table. */
#include "test/expect.h"

SEC("tc")
int a_meshed_pods_connection_to_a_captured_service_is_recorded(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	const struct malla_flow *flow;

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(from_pod_judge(&syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	flow = flow_find(&syn.flow);
	EXPECT(flow && flow->kind == MALLA_FLOW_CAPTURED);
	EXPECT(flow->interfaces[0] == POD_INTERFACE);
	return 0;
}

SEC("tc")
int every_later_packet_follows_the_verdict_of_the_syn(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	struct packet ack = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(from_pod_judge(&syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);

	put_service(0, 1); /* its route was taken away */
	EXPECT(from_pod_judge(&ack, POD_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(from_pod_judge(&syn, POD_INTERFACE) == MALLA_VERDICT_PASS); /* a new connection */
	EXPECT(from_pod_judge(&ack, POD_INTERFACE) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int without_an_engine_captured_connections_are_dropped(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	struct packet ack = packet_between(end4(POD, 40001), end4(SERVICE, 80), TCP_ACK);

	(void)unused;
	put_setting(0);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(from_pod_judge(&syn, POD_INTERFACE) == MALLA_VERDICT_NO_ENGINE);
	EXPECT(!flow_find(&syn.flow));
	EXPECT(from_pod_judge(&ack, POD_INTERFACE) == MALLA_VERDICT_NO_ENGINE);
	return 0;
}

SEC("tc")
int a_stray_packet_to_a_captured_service_never_passes_the_engine(struct __sk_buff *unused)
{
	struct packet ack = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(from_pod_judge(&ack, POD_INTERFACE) == MALLA_VERDICT_STRAY_TO_ENGINE);
	return 0;
}

SEC("tc")
int another_pods_address_is_not_believed(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	struct packet ack = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_ACK);

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(MALLA_POD_MESHED);
	EXPECT(from_pod_judge(&syn, OTHER_INTERFACE) == MALLA_VERDICT_SPOOFED);
	EXPECT(from_pod_judge(&syn, POD_INTERFACE) == MALLA_VERDICT_CAPTURED);
	EXPECT(from_pod_judge(&ack, OTHER_INTERFACE) == MALLA_VERDICT_SPOOFED);
	return 0;
}

SEC("tc")
int a_pod_outside_of_the_mesh_gets_an_endpoint_without_the_engine(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(POD, 40000), end4(SERVICE, 80), TCP_SYN);
	struct packet answer = packet_between(end4(SERVER, 8080), end4(POD, 40000), TCP_ACK);
	const struct malla_flow *flow;

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_service(MALLA_SERVICE_CAPTURED, 1);
	put_pod(0);
	EXPECT(from_pod_judge(&syn, POD_INTERFACE) == MALLA_VERDICT_TRANSLATED);
	flow = flow_find(&syn.flow);
	EXPECT(flow && flow->other.port_be == bpf_htons(8080));
	EXPECT(to_pod_judge(&answer) == MALLA_VERDICT_TRANSLATED_BACK);
	return 0;
}

SEC("tc")
int answers_to_what_the_engine_dialled_are_the_engines(struct __sk_buff *unused)
{
	struct packet syn = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_SYN);
	struct packet answer = packet_between(end4(SERVER, 8080), end4(POD, 61000), TCP_ACK);
	struct ends ends = {.source = POD_INTERFACE, .target = OTHER_INTERFACE};

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	EXPECT(from_fabric_judge(&answer) == MALLA_VERDICT_PASS);
	EXPECT(from_engine_record(&syn, &ends) == MALLA_VERDICT_PASS);
	EXPECT(from_pod_judge(&answer, OTHER_INTERFACE) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(from_fabric_judge(&answer) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(to_pod_judge(&answer) == MALLA_VERDICT_TO_ENGINE);
	return 0;
}

SEC("tc")
int the_engine_puts_back_an_entry_that_the_table_lost(struct __sk_buff *unused)
{
	struct packet push = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_ACK);
	struct packet answer = packet_between(end4(SERVER, 8080), end4(POD, 61000), TCP_ACK);
	struct packet reset = packet_between(end4(POD, 61001), end4(SERVER, 8080), TCP_RST);
	struct packet late = packet_between(end4(SERVER, 8080), end4(POD, 61001), TCP_ACK);
	struct ends ends = {.source = POD_INTERFACE};

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	EXPECT(from_engine_record(&push, &ends) == MALLA_VERDICT_PASS);
	EXPECT(from_fabric_judge(&answer) == MALLA_VERDICT_TO_ENGINE);
	EXPECT(from_engine_record(&reset, &ends) == MALLA_VERDICT_PASS);
	EXPECT(from_fabric_judge(&late) == MALLA_VERDICT_PASS);
	return 0;
}

SEC("tc")
int one_tuple_is_never_both_the_pods_and_the_engines(struct __sk_buff *unused)
{
	struct packet first = packet_between(end4(POD, 61000), end4(SERVER, 8080), TCP_SYN);
	struct packet second = packet_between(end4(POD, 61001), end4(SERVER, 8080), TCP_SYN);
	struct ends ends = {.source = POD_INTERFACE};

	(void)unused;
	put_setting(ENGINE_INTERFACE);
	put_pod(MALLA_POD_MESHED);
	EXPECT(from_engine_record(&first, &ends) == MALLA_VERDICT_PASS);
	EXPECT(from_pod_judge(&first, POD_INTERFACE) == MALLA_VERDICT_POD_MET_ENGINE);
	EXPECT(from_fabric_judge(&first) == MALLA_VERDICT_UPLINK_MET_ENGINE);

	EXPECT(from_pod_judge(&second, POD_INTERFACE) == MALLA_VERDICT_PASS);
	EXPECT(from_engine_record(&second, &ends) == MALLA_VERDICT_ENGINE_MET_POD);
	return 0;
}
