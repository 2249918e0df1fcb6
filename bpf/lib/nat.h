/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * nat.h - packets that bear a service's address: which endpoint their flow has, and the way back.
 * One entry a direction, keyed by the tuple as the packet bears it, says the tuple that it is to
 * bear from there on. Whoever is in a pod or in the node's namespace is balanced at the socket and
 * comes here only if his packets did not go through it; whoever is outside always comes here.
 *
 *  - An endpoint in a local pod sees the client's own address, and his port, unless he speaks with
 *    the same endpoint from it already, by way of another service or with the pod itself.
 *  - One on another node is dialled from this node's address (SNAT), because the answers must
 *    come back by here; there is no direct return.
 *  - A pod that reaches itself is shown the service's address as its client.
 */
#pragma once
#include "lib/conntrack.h"
#include "lib/endpoint.h"
#include "lib/pod.h"
#include "lib/share.h"
#include "lib/translate.h"

#include "malla_snat.h"

/*
 * Written at the first packet of a flow; read at each packet that may be of one. BPFLoader takes
 * out what is over, sooner what was never answered when the table fills; a full one refuses new
 * flows, so that no flood from outside ends one that lives. The loader sets the size. Pods that
 * reach themselves have each a bounded part (malla_home).
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct malla_flow_key);
	__type(value, struct malla_snat);
} malla_snat SEC(".maps");

/*
 * The flows by which each pod reaches itself, at a place that their tuple chooses: there a new one
 * takes the room of that pod's oldest, so that none fills the table above. Written and read when
 * such a flow is opened. A row that makes room leaves its flow to BPFLoader.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct malla_ring_key);
	__type(value, struct malla_flow_key);
} malla_home SEC(".maps");

/* One row, of this node's own addresses. Written by BPFLoader/Projection; read with SNAT. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct malla_node);
} malla_node SEC(".maps");

/* Nothing of this node is served to anybody outside. */
static __always_inline int nat_is_idle(void)
{
	const struct malla_node *node;
	__u32 first = 0;

	node = bpf_map_lookup_elem(&malla_node, &first);
	return !node || !(node->flags & MALLA_NODE_SERVES);
}

/* Ports that are tried before a connection is refused. */
#define NAT_PORTS_TRIED 16
/* Flows by which one pod reaches itself: so many sets of places, each of so many. */
#define NAT_HOME_SETS	256
#define NAT_HOME_PLACES 4

#define NAT_SECOND	1000000000ull
#define NAT_UDP_IDLE	(180 * NAT_SECOND)
#define NAT_TCP_OPENING (60 * NAT_SECOND)
#define NAT_TCP_IDLE	(8000 * NAT_SECOND)
#define NAT_TCP_CLOSED	(2 * NAT_SECOND)

/* malla_snat.state */
#define NAT_ANSWERED 1	/* the other direction was seen */
#define NAT_FINISHED 2	/* FIN in this direction */
#define NAT_RESET    4	/* RST in either, and nothing else since */
#define NAT_CUT	     8	/* the endpoint is gone; the loader writes it */
#define NAT_BACK     16 /* the row of the answers; for as long as it is there */

static __always_inline struct malla_snat *nat_find(const struct malla_flow_key *flow,
						   enum malla_nat_kind kind)
{
	struct malla_snat *entry = bpf_map_lookup_elem(&malla_snat, flow);

	return entry && entry->kind == kind ? entry : 0;
}

/* Whether its flow has ended, so that its tuple may be given to another. */
static __always_inline int nat_is_over(const struct malla_snat *entry, __u8 protocol, __u64 now)
{
	__u64 silent = now - entry->seen_ns;

	if (protocol != IPPROTO_TCP)
		return silent > NAT_UDP_IDLE;
	if (entry->state & (NAT_FINISHED | NAT_RESET))
		return silent > NAT_TCP_CLOSED;
	return silent > (entry->state & NAT_ANSWERED ? NAT_TCP_IDLE : NAT_TCP_OPENING);
}

/* Whether whoever dials on this tuple is known to be done with its flow: reset, or ended by both.
 */
static __always_inline int nat_is_closed(const struct malla_snat *entry)
{
	struct malla_flow_key answer = flow_reversed(&entry->becomes);
	const struct malla_snat *other;

	if (entry->state & (NAT_RESET | NAT_CUT))
		return 1;
	if (!(entry->state & NAT_FINISHED))
		return 0;
	other = bpf_map_lookup_elem(&malla_snat, &answer);
	return other && other->state & NAT_FINISHED;
}

/* Whether the packet is one of a local pod's client who knows the pod as a service. */
static __always_inline int nat_serves(const struct malla_flow_key *flow)
{
	struct malla_flow_key answer = flow_reversed(flow);

	return nat_find(&answer, MALLA_NAT_OUT_OF_POD) != 0;
}

/*
 * Both directions are marked, so that the answers' port is free again too. Who sends on was not
 * reset, and takes its own mark off; a flow is over while either is marked, so that it takes both
 * ends to say that somebody else had made the reset.
 */
static __always_inline void nat_mark_reset(struct malla_snat *entry)
{
	struct malla_flow_key answer = flow_reversed(&entry->becomes);
	struct malla_snat *other = bpf_map_lookup_elem(&malla_snat, &answer);

	entry->state |= NAT_RESET;
	if (other)
		other->state |= NAT_RESET;
}

/* As malla_flow counts: a message about the flow is none of its packets. */
static __always_inline void nat_count(struct malla_snat *entry, const struct packet *packet)
{
	__sync_fetch_and_add(&entry->packets, packet->segments);
	__sync_fetch_and_add(&entry->bytes, packet->bytes);
}

/*
 * Counts a packet and notes what it tells; writes only what changes, and the time once a second. A
 * SYN that comes again keeps nothing alive.
 */
static __always_inline void nat_note(struct malla_snat *entry, const struct packet *packet)
{
	__u64 now = bpf_ktime_get_ns();
	__u32 state;

	if (packet->is_icmp)
		return;
	nat_count(entry, packet);
	if (packet->is_fragment)
		return;
	if (packet->flags & TCP_RST)
		nat_mark_reset(entry);
	state = entry->state;
	if (!(packet->flags & (TCP_RST | TCP_SYN)))
		state &= ~NAT_RESET;
	if (packet->flags & TCP_FIN)
		state |= NAT_FINISHED;
	if (packet->flags & TCP_ACK)
		state |= NAT_ANSWERED;
	if (state != entry->state)
		entry->state = state;
	if (now - entry->seen_ns > NAT_SECOND && !packet_opens(packet))
		entry->seen_ns = now;
}

/* What a new flow is to be. */
struct nat_plan {
	struct malla_flow_key becomes;
	enum malla_nat_kind there;
	enum malla_nat_kind back;
};

#define NAT_TAKEN -1 /* another flow, not over yet, would have the same answers */
#define NAT_FULL  -2

/*
 * Whether somebody else than `flow` speaks on the tuple that it would get, with a pod itself or by
 * way of a service. For the verifier.
 */
__attribute__((noinline)) int nat_is_spoken(const struct malla_flow_key *flow,
					    const struct malla_flow_key *becomes)
{
	const struct malla_snat *own;
	struct malla_flow_key answer;
	struct sight sight;

	if (!flow || !becomes)
		return 1;
	answer = flow_reversed(becomes);
	own = bpf_map_lookup_elem(&malla_snat, &answer);
	answer = flow_reversed(flow);
	if (own && flow_is_equal(&own->becomes, &answer))
		return 0;
	flow_see(becomes, &sight);
	/* What was served and has no row any more outlived its own: a port kept for hours (SIP). */
	if (!sight.flow || (!own && sight.flow->flags & MALLA_FLOW_SERVED))
		return 0;
	return sight.flow->state != MALLA_FLOW_CLOSED;
}

/* What was recorded of `flow` before is over, its answers too. For the verifier. */
__attribute__((noinline)) int nat_forget(const struct malla_flow_key *flow)
{
	const struct malla_snat *old;
	struct malla_flow_key answer;
	struct malla_flow_key back;

	if (!flow)
		return 0;
	old = bpf_map_lookup_elem(&malla_snat, flow);
	if (!old)
		return 0;
	answer = flow_reversed(&old->becomes);
	back = flow_reversed(flow);
	old = bpf_map_lookup_elem(&malla_snat, &answer);
	if (old && flow_is_equal(&old->becomes, &back))
		bpf_map_delete_elem(&malla_snat, &answer);
	return 0;
}

/*
 * Somebody outside dials on `flow` an endpoint itself. What is recorded of a service's flow from
 * his port is over and forgotten, or the answers would bear the service's address. 1: he speaks
 * with the endpoint by way of the service yet. `is_over`: another table knows that he does not. For
 * the verifier.
 */
__attribute__((noinline)) int nat_overrule(const struct malla_flow_key *flow, int is_over)
{
	const struct malla_snat *entry;
	struct malla_flow_key answer;
	struct malla_flow_key dialled;

	if (!flow)
		return 0;
	answer = flow_reversed(flow);
	entry = bpf_map_lookup_elem(&malla_snat, &answer);
	if (!entry || (entry->kind != MALLA_NAT_OUT_OF_POD && entry->kind != MALLA_NAT_OUT_OF_NODE))
		return 0;
	/* Of datagrams no state is known. */
	if (!is_over && (entry->state & NAT_ANSWERED || flow->protocol != IPPROTO_TCP) &&
	    !nat_is_closed(entry) && !nat_is_over(entry, flow->protocol, bpf_ktime_get_ns()))
		return 1;
	dialled = flow_reversed(&entry->becomes);
	bpf_map_delete_elem(&malla_snat, &answer);
	entry = bpf_map_lookup_elem(&malla_snat, &dialled);
	if (entry && flow_is_equal(&entry->becomes, flow))
		bpf_map_delete_elem(&malla_snat, &dialled);
	return 0;
}

/* A SYN that comes again, whose flow is recorded already: what was counted stays. */
static __always_inline int nat_is_recorded(const struct malla_snat *there,
					   const struct malla_snat *back,
					   const struct nat_plan *plan,
					   const struct malla_snat *wanted)
{
	return there && back && !((there->state | back->state) & ~NAT_BACK) &&
	       there->kind == plan->there && back->kind == plan->back &&
	       flow_is_equal(&there->becomes, &plan->becomes) &&
	       flow_is_equal(&back->becomes, &wanted->becomes) &&
	       !nat_is_over(there, plan->becomes.protocol, wanted->seen_ns);
}

/* Records both directions; 0: done. A function of its own for the verifier. */
__attribute__((noinline)) int nat_record(const struct malla_flow_key *flow,
					 const struct nat_plan *plan)
{
	struct malla_flow_key answer;
	struct malla_snat entry = {.seen_ns = bpf_ktime_get_ns()};
	const struct malla_snat *old;

	if (!flow || !plan)
		return NAT_TAKEN;
	answer = flow_reversed(&plan->becomes);
	entry.becomes = flow_reversed(flow);
	entry.kind = plan->back;
	old = bpf_map_lookup_elem(&malla_snat, &answer);
	if (old && !nat_is_over(old, flow->protocol, entry.seen_ns) &&
	    !flow_is_equal(&old->becomes, &entry.becomes))
		return NAT_TAKEN;
	if (nat_is_recorded(bpf_map_lookup_elem(&malla_snat, flow), old, plan, &entry))
		return 0;
	entry.state = NAT_BACK;
	if (bpf_map_update_elem(&malla_snat, &answer, &entry, BPF_ANY))
		return NAT_FULL;
	entry.becomes = plan->becomes;
	entry.kind = plan->there;
	entry.state = 0;
	if (!bpf_map_update_elem(&malla_snat, flow, &entry, BPF_ANY))
		return 0;
	bpf_map_delete_elem(&malla_snat, &answer);
	return NAT_FULL;
}

static __always_inline enum malla_verdict nat_refusal(int refused)
{
	return refused == NAT_FULL ? MALLA_VERDICT_SNAT_FULL : MALLA_VERDICT_SNAT_PORTS;
}

static __always_inline int nat_try(const struct malla_flow_key *flow, const struct nat_plan *plan)
{
	if (plan->back == MALLA_NAT_OUT_OF_POD && nat_is_spoken(flow, &plan->becomes))
		return NAT_TAKEN;
	return nat_record(flow, plan);
}

/* A tuple's hash, the same on every node: Maglev's number. */
static __always_inline __u32 nat_hash(const struct malla_flow_key *flow)
{
	__u32 hash = flow_hash(flow);

	hash *= 0xc2b2ae35u;
	return hash ^ hash >> 16;
}

/*
 * Dials from `source`, from a port of the range that neither the node's sockets nor the engine use.
 * 0: recorded.
 */
static __always_inline int nat_record_from(const struct malla_flow_key *flow, struct nat_plan *plan,
					   __u32 hash)
{
	__u32 span = MALLA_SNAT_PORT_MAX - MALLA_SNAT_PORT_MIN + 1;
	int refused = NAT_TAKEN;

	for (__u32 tried = 0; tried < NAT_PORTS_TRIED; tried++) {
		plan->becomes.source_port_be =
		    bpf_htons((__u16)(MALLA_SNAT_PORT_MIN + (hash + tried * 7919) % span));
		refused = nat_try(flow, plan);
		if (refused != NAT_TAKEN)
			break;
	}
	return refused;
}

/* Chooses the endpoint of a new flow into `plan`. 0: the group has none. */
static __always_inline int nat_choose(const struct packet *packet,
				      const struct malla_service *service,
				      const struct malla_group *group, struct nat_plan *plan)
{
	struct client client = {
	    .known_as.address = packet->flow.source,
	    .choice = nat_hash(&packet->flow),
	    .is_consistent = 1,
	};
	struct malla_end endpoint;

	if (!endpoint_choose(service, group, &client, &endpoint))
		return 0;
	plan->becomes = packet->flow;
	plan->becomes.target = endpoint.address;
	plan->becomes.target_port_be = endpoint.port_be;
	return 1;
}

/* The endpoint of a pod's packet that begins a flow to `service`. 0: there is none. */
static __always_inline int nat_end(const struct packet *packet, const struct malla_service *service,
				   struct malla_end *endpoint)
{
	struct client client = {
	    .known_as.address = packet->flow.source,
	    .choice = nat_hash(&packet->flow),
	    .is_consistent = 1,
	};

	return endpoint_choose(service, &service->inside, &client, endpoint);
}

/* How readily a row gives its place away: 0 is at once. */
static __always_inline int nat_home_hold(const struct malla_snat *entry, __u8 protocol, __u64 now)
{
	if (nat_is_over(entry, protocol, now))
		return 0;
	return (entry->state & (NAT_ANSWERED | NAT_FINISHED | NAT_RESET | NAT_CUT)) == NAT_ANSWERED
		   ? 2
		   : 1;
}

#define NAT_ROOM_MADE 1

/*
 * Finds a place among its pod's for a flow that is not recorded yet: one whose flow is over, else
 * the oldest of those that ended or that nobody answered, else the oldest. 0: it has one;
 * ROOM_MADE: that, and `old` is to be forgotten. For the verifier.
 */
__attribute__((noinline)) int nat_home_admit(const struct malla_flow_key *flow, __u32 owner,
					     struct malla_flow_key *old)
{
	struct malla_ring_key at = {.endpoint = owner};
	struct malla_share *share;
	const struct malla_snat *entry;
	struct malla_flow_key *place;
	__u64 now = bpf_ktime_get_ns();
	__u64 seen_ns = ~0ull;
	__u32 oldest = 0;
	int least = 3;
	int hold;

	if (!flow || !old)
		return NAT_FULL;
	if (nat_find(flow, MALLA_NAT_HOME))
		return 0;
	at.place = nat_hash(flow) % NAT_HOME_SETS * NAT_HOME_PLACES;
	for (int look = 0; look < NAT_HOME_PLACES; look++, at.place++) {
		place = bpf_map_lookup_elem(&malla_home, &at);
		if (!place)
			return bpf_map_update_elem(&malla_home, &at, flow, BPF_ANY) ? NAT_FULL : 0;
		entry = nat_find(place, MALLA_NAT_HOME);
		if (!entry) {
			*place = *flow;
			return 0;
		}
		hold = nat_home_hold(entry, place->protocol, now);
		if (hold < least || (hold == least && entry->seen_ns < seen_ns)) {
			least = hold;
			seen_ns = entry->seen_ns;
			oldest = at.place;
		}
	}
	at.place = oldest;
	place = bpf_map_lookup_elem(&malla_home, &at);
	if (!place)
		return NAT_FULL;
	share = bpf_map_lookup_elem(&malla_share, &owner);
	if (share && least)
		__sync_fetch_and_add(&share->evicted, 1);
	*old = *place;
	*place = *flow;
	return NAT_ROOM_MADE;
}

/* A pod reaches itself: it is shown the service's address as its client. 0: recorded. */
static __always_inline int nat_home_open(const struct packet *packet,
					 const struct malla_end *endpoint, __u32 owner)
{
	struct nat_plan plan = {
	    .becomes = packet->flow,
	    .there = MALLA_NAT_HOME,
	    .back = MALLA_NAT_HOME,
	};
	int room = nat_home_admit(&packet->flow, owner, &plan.becomes);

	if (room == NAT_FULL)
		return NAT_FULL;
	if (room == NAT_ROOM_MADE) {
		nat_forget(&plan.becomes);
		bpf_map_delete_elem(&malla_snat, &plan.becomes);
	}
	plan.becomes = packet->flow;
	plan.becomes.source = packet->flow.target;
	plan.becomes.target = endpoint->address;
	plan.becomes.target_port_be = endpoint->port_be;
	return nat_record(&packet->flow, &plan);
}

/* Writes what such a packet becomes. 0: done. A function of its own for the verifier. */
__attribute__((noinline)) int nat_home(struct __sk_buff *skb, const struct packet *packet)
{
	struct malla_flow_key becomes;
	struct malla_snat *entry;

	if (!packet)
		return -1;
	entry = nat_find(&packet->flow, MALLA_NAT_HOME);
	if (!entry)
		return -1;
	nat_note(entry, packet);
	becomes = entry->becomes;
	return translate(skb, packet, &becomes) != 0;
}

/* A packet from outside begins a flow to `service`, at an uplink: TRANSLATED where it is served;
 * `becomes` is what it is. */
static __always_inline enum malla_verdict nat_open_outside(const struct packet *packet,
							   const struct malla_service *service,
							   struct malla_flow_key *becomes)
{
	struct nat_plan plan = {.there = MALLA_NAT_FROM_FABRIC, .back = MALLA_NAT_OUT_OF_POD};
	const struct malla_node *node;
	struct malla_snat *entry;
	const __u32 *near;
	__u32 first = 0;
	int refused;

	if (!service_admits(service, &packet->flow.source))
		return MALLA_VERDICT_SOURCE_REFUSED;
	if (!nat_choose(packet, service, &service->outside, &plan))
		return MALLA_VERDICT_NO_ENDPOINT;
	nat_forget(&packet->flow);
	near = bpf_map_lookup_elem(&malla_near, &plan.becomes.target);
	if (near && *near == MALLA_NEAR_OWN)
		plan.back = MALLA_NAT_OUT_OF_NODE;
	if (plan.back == MALLA_NAT_OUT_OF_NODE || pod_find(&plan.becomes.target)) {
		refused = nat_try(&packet->flow, &plan);
	} else {
		node = bpf_map_lookup_elem(&malla_node, &first);
		if (!node)
			return MALLA_VERDICT_FAILED;
		plan.becomes.source =
		    address_is_ip4(&plan.becomes.target) ? node->source4 : node->source6;
		if (address_is_unspecified(&plan.becomes.source))
			return MALLA_VERDICT_NO_SOURCE;
		plan.back = MALLA_NAT_FROM_REMOTE;
		refused = NAT_TAKEN;
	}
	/* Who speaks with the endpoint from his port already keeps it: this flow gets another. */
	if (refused == NAT_TAKEN)
		refused = nat_record_from(&packet->flow, &plan, nat_hash(&packet->flow));
	*becomes = plan.becomes;
	if (refused)
		return nat_refusal(refused);
	entry = bpf_map_lookup_elem(&malla_snat, &packet->flow);
	if (entry)
		nat_count(entry, packet);
	return MALLA_VERDICT_TRANSLATED;
}

/* Whether a packet without an entry begins a flow that may be balanced. */
static __always_inline int nat_begins(const struct packet *packet)
{
	if (packet->is_icmp)
		return 0;
	return packet->flow.protocol == IPPROTO_UDP || packet_opens(packet);
}
