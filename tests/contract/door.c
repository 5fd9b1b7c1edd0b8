#include "door.h"

#include <stdlib.h>
#include <unistd.h>

#ifdef BUS_TEST_TLS
#include "users_test.h"
#endif

static const char mark[] = "mark/it/here", stall[] = "stall/it/here";

/* --- rigs -------------------------------------------------------------------------------------------------- */

bool
has_link(const struct rig *rig)
{
	return rig->door->scheme >= 0;
}

bool
is_named(const struct door *door)
{
	return door->scheme == NAMED;
}

struct bus *
open_named(const char *dir)
{
	const struct bus_config cfg = {.size = sizeof cfg, .dir = dir, .log_bytes = 16 << 20};
	struct bus *bus;

	ck_bus(bus_open("contract", &cfg, &bus), 0);
	return bus;
}

static const char *
users_path(void)
{
	static char path[256];

	snprintf(path, sizeof path, "%s/users", bus_test_dir());
	return path;
}

struct bus_link_config
dial_config(const struct door *door)
{
	struct bus_link_config cfg = {.size = sizeof cfg};

	if (door->asks) {
		cfg.user = "pico";
		cfg.password = "leek soup";
	}
	return cfg;
}

static void
listen_at(struct rig *rig, const char *url)
{
	struct bus_link_config cfg = {.size = sizeof cfg, .bytes = ROOM};

	if (rig->door->asks)
		cfg.users_file = users_path();
	ck_bus(bus_listen(rig->from, url, &cfg, &rig->listener), 0);
}

static const char *
url_of(const struct door *door)
{
	static char url[256];

	if (door->scheme != OWN)
		return listen_url(door->scheme);
	snprintf(url, sizeof url, "fifo://%s/fifo", bus_test_dir());
	return url;
}

void
rig_open(struct rig *rig, const struct door *door)
{
	struct bus_link_config dial;

	*rig = (struct rig){.door = door};
	rig->from = is_named(door) ? open_named(bus_test_dir()) : open_bus();
	rig->to = is_named(door) ? open_named(bus_test_dir()) : rig->from;
	if (!has_link(rig))
		return;
	rig->to = open_bus();
#ifdef BUS_TEST_TLS
	if (door->asks && access(users_path(), F_OK) != 0)
		add_user(users_path(), "pico", "leek soup");
#endif
	listen_at(rig, url_of(door));
	ck_assert_int_gt(bus_link_url(rig->listener, rig->url, sizeof rig->url), 0);
	dial = dial_config(door);
	ck_bus(bus_dial(rig->to, rig->url, &dial, &rig->dialled), 0);
	ck_eventually(is_up(rig->dialled));
}

void
rig_close(struct rig *rig)
{
	bus_link_close(rig->dialled);
	bus_link_close(rig->listener);
	if (rig->to != rig->from)
		ck_assert_int_ge(bus_close(rig->to, 5000), 0);
	ck_assert_int_ge(bus_close(rig->from, 5000), 0);
}

void
rig_ready(struct rig *rig)
{
	const struct bus_msg *msg;
	struct bus_mailbox *mbox;
	char topic[32];

	if (!has_link(rig))
		return;
	/* Filters are told in order: once this one is known, so are the earlier ones. */
	snprintf(topic, sizeof topic, "ready/%u", rig->ready++);
	ck_bus(bus_mailbox_open(rig->to, NULL, &mbox), 0);
	ck_bus(bus_mailbox_subscribe(mbox, topic, NULL, NULL, NULL), 0);
	ck_eventually((publish(rig, topic, "", 0), bus_recv(mbox, 1, &msg) == 1));
	bus_mailbox_close(mbox);
}

void
rig_cut(struct rig *rig)
{
	bus_link_close(rig->listener);
	rig->listener = NULL;
	ck_eventually(!is_up(rig->dialled));
}

void
rig_mend(struct rig *rig)
{
	listen_at(rig, rig->url);
	ck_eventually(is_up(rig->dialled));
}

/* --- inboxes ----------------------------------------------------------------------------------------------- */

static bool
begins(const char *text, const char *start)
{
	return strncmp(text, start, strlen(start)) == 0;
}

static uint8_t *
copy_of(const void *data, size_t len)
{
	uint8_t *copy = malloc(len + 1);

	ck_assert_ptr_nonnull(copy);
	if (len > 0)
		memcpy(copy, data, len);
	return copy;
}

static void
remember(struct inbox *inbox, const struct bus_msg *msg)
{
	struct item *item;

	pthread_mutex_lock(&inbox->lock);
	if (inbox->count == inbox->cap) {
		inbox->cap = inbox->cap * 2 + 64;
		inbox->items = realloc(inbox->items, inbox->cap * sizeof *inbox->items);
		ck_assert_ptr_nonnull(inbox->items);
	}
	item = &inbox->items[inbox->count++];
	item->msg = *msg;
	item->data = copy_of(msg->data, msg->len);
	item->headers = copy_of(msg->headers, msg->headers_len);
	snprintf(item->topic, sizeof item->topic, "%s", msg->topic);
	pthread_mutex_unlock(&inbox->lock);
}

static void
handed_over(void *arg, const struct bus_msg *msg)
{
	struct inbox *inbox = arg;

	if (begins(msg->topic, "stall/")) {
		inbox->inside = true;
		ck_eventually(!inbox->stalled);
	} else if (!begins(msg->topic, "ready/")) {
		remember(inbox, msg);
	}
}

static void
subscribe(struct inbox *inbox, const char *filter, struct bus_sub **ret_sub)
{
	bool polled = inbox->rig->door->drain == BUS_DRAIN_CALLER;

	ck_bus(
	    bus_mailbox_subscribe(inbox->mbox, filter, polled ? NULL : handed_over, inbox, ret_sub),
	    0);
}

static void
open_as(struct inbox *inbox, struct rig *rig, const struct bus_mailbox_config *how,
    const char *const *filters)
{
	struct bus_mailbox_config cfg = *how;

	cfg.drain = rig->door->drain;
	*inbox = (struct inbox){.rig = rig, .lock = PTHREAD_MUTEX_INITIALIZER};
	ck_bus(bus_mailbox_open(rig->to, &cfg, &inbox->mbox), 0);
	subscribe(inbox, mark, NULL);
	if (rig->door->drain != BUS_DRAIN_CALLER)
		subscribe(inbox, stall, NULL);
	for (size_t i = 0; filters[i] != NULL; i++)
		subscribe(inbox, filters[i], i == 0 ? &inbox->sub : NULL);
	rig_ready(rig);
}

void
inbox_open(struct inbox *inbox, struct rig *rig, int full, size_t bytes, const char *const *filters)
{
	const struct bus_mailbox_config cfg = {
	    .size = sizeof cfg, .full = full, .bytes = bytes > 0 ? bytes : ROOM};

	open_as(inbox, rig, &cfg, filters);
}

void
inbox_share(struct inbox *inbox, struct rig *rig, const char *const *filters)
{
	const struct bus_mailbox_config cfg = {.size = sizeof cfg, .bytes = ROOM, .group = "inbox"};

	open_as(inbox, rig, &cfg, filters);
}

void
inbox_close(struct inbox *inbox)
{
	bus_unsubscribe(inbox->sub, NULL);
	bus_mailbox_close(inbox->mbox);
	for (size_t i = 0; i < inbox->count; i++) {
		free(inbox->items[i].data);
		free(inbox->items[i].headers);
	}
	free(inbox->items);
}

struct bus_stats
inbox_stats(struct inbox *inbox)
{
	struct bus_stats stats = {.size = sizeof stats};

	ck_bus(bus_mailbox_stats(inbox->mbox, &stats), 0);
	return stats;
}

static void *
publish_stall(void *arg)
{
	struct inbox *inbox = arg;

	ck_bus(bus_publish(inbox->rig->from, stall, "", 0), 0);
	return NULL;
}

void
inbox_stall(struct inbox *inbox)
{
	if (inbox->rig->door->drain == BUS_DRAIN_CALLER)
		return;
	inbox->stalled = true;
	inbox->inside = false;
	inbox->stalls++;
	/* On a separate thread: the callback may run inside this very publish. */
	ck_assert_int_eq(pthread_create(&inbox->staller, NULL, publish_stall, inbox), 0);
	ck_eventually(inbox->inside);
}

void
inbox_resume(struct inbox *inbox)
{
	if (!inbox->stalled)
		return;
	inbox->stalled = false;
	pthread_join(inbox->staller, NULL);
}

void
inbox_pump(struct inbox *inbox)
{
	const struct bus_msg *msg;

	if (inbox->rig->door->drain != BUS_DRAIN_CALLER)
		return;
	while (bus_recv(inbox->mbox, 0, &msg) == 1)
		handed_over(inbox, msg);
}

bool
inbox_has_next(struct inbox *inbox)
{
	bool has;

	inbox_pump(inbox);
	pthread_mutex_lock(&inbox->lock);
	has = inbox->taken < inbox->count;
	pthread_mutex_unlock(&inbox->lock);
	return has;
}

const struct item *
inbox_take(struct inbox *inbox)
{
	static _Thread_local struct item item;

	ck_eventually(inbox_has_next(inbox));
	pthread_mutex_lock(&inbox->lock);
	item = inbox->items[inbox->taken++]; /* a copy: the list may move */
	pthread_mutex_unlock(&inbox->lock);
	return &item;
}

void
inbox_ends(struct inbox *inbox)
{
	const struct item *item;

	publish(inbox->rig, mark, "", 0);
	item = inbox_take(inbox);
	ck_assert_str_eq(item->topic, mark);
	ck_assert_uint_eq(item->msg.lost, 0);
}

/* --- messages ---------------------------------------------------------------------------------------------- */

void
publish(struct rig *rig, const char *topic, const void *data, size_t len)
{
	ck_bus(bus_publish(rig->from, topic, data, len), 0);
}

void
publish_number(struct rig *rig, const char *topic, unsigned number)
{
	publish(rig, topic, &number, sizeof number);
}

void
retain(struct rig *rig, const char *topic, const char *text)
{
	const struct bus_msg msg = {.size = sizeof msg,
	    .topic = topic,
	    .data = text,
	    .len = strlen(text),
	    .flags = BUS_MSG_RETAIN};

	ck_bus(bus_publish_msg(rig->from, &msg), 0);
}

unsigned
number_of(const struct item *item)
{
	unsigned number;

	ck_assert_uint_eq(item->msg.len, sizeof number);
	memcpy(&number, item->data, sizeof number);
	return number;
}
