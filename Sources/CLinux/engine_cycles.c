#include "engine_cycles.h"

static uint64_t nanoseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t engine_cycles_per_second(void)
{
	uint64_t began = nanoseconds(), first = engine_cycles(), ended;

	do
		ended = nanoseconds();
	while (ended - began < 5000000);
	return (uint64_t)((double)(engine_cycles() - first) * 1e9 / (double)(ended - began));
}
