/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* endpoint.h - the endpoints of a group, and the choice of one. */
#pragma once
#include "lib/affinity.h"
#include "lib/maglev.h"
#include "lib/service.h"

/*
 * Written by BPFLoader/Projection: new slots before the service's row that counts them, removed
 * ones after it; read once per connection. The loader sets the size.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 262144);
	__type(key, struct malla_endpoint_key);
	__type(value, struct malla_end);
} malla_endpoint SEC(".maps");

static __always_inline const struct malla_end *endpoint_at(const struct malla_group *group,
							   __u32 slot)
{
	struct malla_endpoint_key key = {.group = group->id, .slot = slot};

	return bpf_map_lookup_elem(&malla_endpoint, &key);
}

/* Who asks for an endpoint. */
struct client {
	struct malla_affinity_key known_as; /* its group is filled in by the choice */
	__u32 choice;			    /* random, or a hash */
	__u8 is_consistent;		    /* the same choice shall find the same endpoint */
};

/*
 * Chooses one and writes it. 0: the group has none. A client that the service remembers gets the
 * endpoint that it had, as long as that is in the group. A function of its own for the verifier,
 * which knows nothing of its callers.
 */
__attribute__((noinline)) int endpoint_choose(const struct malla_service *service,
					      const struct malla_group *group,
					      struct client *client, struct malla_end *chosen)
{
	const struct malla_end *endpoint;
	int is_table;
	__u32 slot;

	if (!service || !group || !client || !chosen || !group->endpoints)
		return 0;
	is_table = client->is_consistent || (service->flags & MALLA_SERVICE_WEIGHTED);
	client->known_as.group = group->id;
	if (service->affinity_seconds &&
	    affinity_recall(&client->known_as, service->affinity_seconds, chosen))
		return 1;
	slot = is_table ? maglev_slot(group, client->choice) : client->choice % group->endpoints;
	endpoint = endpoint_at(group, slot);
	if (!endpoint)
		return 0;
	*chosen = *endpoint;
	if (service->affinity_seconds)
		affinity_remember(&client->known_as, chosen);
	return 1;
}
