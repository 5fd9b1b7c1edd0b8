/* bus/pub_parts.c: sending a payload in parts. They are copied once: into the log, or into the block that all mailboxes
 * share. */
#include "base/parts.h"
#include "bus/fail.h"
#include "bus/pub.h"

/* Their total length. 0 or BUS_E_*. */
static int
measure(const struct bus_pub *pub, const struct bus_slice *parts, size_t count, size_t *ret_len)
{
	size_t len = 0;

	if (parts == NULL && count > 0)
		return BUS_E_INVAL;
	for (size_t i = 0; i < count; i++) {
		if (parts[i].data == NULL && parts[i].len > 0)
			return BUS_E_INVAL;
		*ret_len = parts[i].len > SIZE_MAX - len ? SIZE_MAX : len + parts[i].len;
		if (*ret_len > pub->bus->max_payload)
			return BUS_E_TOO_BIG;
		len = *ret_len;
	}
	*ret_len = len;
	return 0;
}

static int
append(struct bus_pub *pub, const struct bus_slice *parts, size_t count, size_t len)
{
	struct log_item record = pub->record;

	record.parts = parts;
	record.part_count = count;
	return pub->bus->kind->send_parts(pub->bus, &record, len);
}

static int
share(struct bus_pub *pub, const struct bus_slice *parts, size_t count, size_t len)
{
	struct bus__block *block = bus__attempt_block(&pub->pool, len);
	struct ring_item item = {.block = block, .len = (uint32_t)len, .type = (uint8_t)pub->type};
	int err;

	if (block == NULL)
		return bus__fail_publish(pub->bus, BUS_E_NOMEM, pub->topic->name, len);
	bus__parts_join(block->data, parts, count);
	err = bus__pub_send_item(pub, &item);
	bus__block_unref(block);
	return err;
}

int
bus_pub_send_parts(struct bus_pub *pub, const struct bus_slice *parts, size_t count)
{
	size_t len = 0;
	int err = bus__pub_enter(pub);

	if (err == 0)
		err = measure(pub, parts, count, &len);
	if (err < 0)
		return bus__pub_fail(pub, err, len);
	return pub->record.topic != NULL ? append(pub, parts, count, len)
					 : share(pub, parts, count, len);
}
