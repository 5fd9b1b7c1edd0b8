/* support/link_test.h: two buses and a link between them, over each transport. */
#ifndef LINK_TEST_H
#define LINK_TEST_H

#include "world.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <libbus/transport.h>

#ifdef BUS_TEST_TLS
#include "tls_test.h"

enum { LINK_TEST_CLEAR = 3, LINK_TEST_SCHEMES = 4 };

/* The default files of both sides, so that no test has to name them. */
static inline const char *
tls_url(void)
{
	static char made[64];
	char *folder = tls_path("libbus", "");

	if (strcmp(made, bus_test_dir()) != 0) {
		bus_test_config_here();
		/* Each file of a program that includes this has a `made` of its own. */
		if (mkdir(folder, 0700) == 0) {
			make_ca("libbus/ca");
			make_cert("libbus/server", "libbus/ca", "127.0.0.1", "localhost");
		}
		snprintf(made, sizeof made, "%s", bus_test_dir());
	}
	return "tls://127.0.0.1:0";
}
#else
enum { LINK_TEST_CLEAR = 3, LINK_TEST_SCHEMES = LINK_TEST_CLEAR };

static inline const char *
tls_url(void)
{
	return NULL;
}
#endif

/* An address of this test to listen at; i: 0 inproc, 1 ipc, 2 tcp, 3 tls. */
static inline const char *
listen_url(int i)
{
	static char url[256];

	switch (i) {
	case 0:
		return "inproc://test";
	case 1:
		snprintf(url, sizeof url, "ipc://%s/socket", bus_test_dir());
		return url;
	case 2:
		return "tcp://127.0.0.1:0";
	default:
		return tls_url();
	}
}

static inline struct bus_link_stats
stats_of(struct bus_link *link)
{
	struct bus_link_stats stats = {.size = sizeof stats};

	ck_bus(bus_link_stats(link, &stats), 0);
	return stats;
}

static inline bool
is_up(struct bus_link *link)
{
	return stats_of(link).state == BUS_LINK_UP;
}

/* a listens, b dials. */
struct pair {
	struct bus *a, *b;
	struct bus_link *la, *lb;
	char url[256];
};

static inline void
pair_link(struct pair *p, int i, const struct bus_link_config *cfg)
{
	/* A link ends that gets no CPU for three heartbeats. */
	const struct bus_link_config patient = {.size = sizeof patient, .heartbeat_ms = 3600000};

	cfg = cfg != NULL ? cfg : &patient;
	ck_bus(bus_listen(p->a, listen_url(i), cfg, &p->la), 0);
	ck_assert_int_gt(bus_link_url(p->la, p->url, sizeof p->url), 0);
	ck_bus(bus_dial(p->b, p->url, cfg, &p->lb), 0);
	ck_eventually(is_up(p->lb));
}

static inline void
pair_open(struct pair *p, int i)
{
	p->a = open_bus();
	p->b = open_bus();
	pair_link(p, i, NULL);
}

static inline void
pair_close(struct pair *p)
{
	bus_link_close(p->lb);
	bus_link_close(p->la);
	ck_assert_int_ge(bus_close(p->b, 5000), 0);
	ck_assert_int_ge(bus_close(p->a, 5000), 0);
}

/* Counts what it is called with and keeps the last message. */
struct heard {
	_Atomic unsigned count, kept, lost, out_of_order;
	unsigned next;
	char topic[BUS_LIMIT_TOPIC_BYTES + 1];
	char data[256];
	struct bus_msg msg;
};

static inline void
hear(void *arg, const struct bus_msg *msg)
{
	struct heard *heard = arg;

	snprintf(heard->topic, sizeof heard->topic, "%s", msg->topic);
	memcpy(
	    heard->data, msg->data, msg->len < sizeof heard->data ? msg->len : sizeof heard->data);
	heard->msg = *msg;
	heard->kept += (msg->flags & BUS_MSG_KEPT) != 0;
	heard->lost += (unsigned)msg->lost;
	heard->count++;
}

#endif
