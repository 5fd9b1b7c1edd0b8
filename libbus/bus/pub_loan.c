/* bus/pub_loan.c: payload memory on loan from the bus. */
#include "base/fork.h"
#include "bus/fail.h"
#include "bus/pub.h"

int
bus_pub_loan(struct bus_pub *pub, size_t len, void **ret_data)
{
	struct bus__block *block;
	int err = bus__pub_enter(pub);

	if (err == 0 && ret_data == NULL)
		err = BUS_E_INVAL;
	if (err == 0 && len > pub->bus->max_payload)
		err = BUS_E_TOO_BIG;
	if (err < 0)
		return bus__pub_fail(pub, err, len);
	block = bus__attempt_block(&pub->pool, len);
	if (block == NULL)
		return bus__fail_publish(pub->bus, BUS_E_NOMEM, pub->topic->name, len);
	block->next = pub->loans;
	pub->loans = block;
	*ret_data = block->data;
	return 0;
}

/* Finds the loan with this data in the list; NULL: it is none of this handle's. */
static struct bus__block **
find_loan(struct bus_pub *pub, const void *data)
{
	struct bus__block **at = &pub->loans;

	while (*at != NULL && (*at)->data != data)
		at = &(*at)->next;
	return *at != NULL ? at : NULL;
}

void
bus__pub_end_loan(struct bus_pub *pub, const void *data)
{
	struct bus__block **at = find_loan(pub, data), *block;

	if (at == NULL)
		return;
	block = *at;
	*at = block->next;
	bus__block_unref(block);
}

int
bus_pub_commit(struct bus_pub *pub, void *data, size_t len)
{
	struct bus__block **loan;
	struct ring_item item;
	int err = bus__pub_enter(pub);

	if (err < 0)
		return bus__pub_fail(pub, err, len);
	loan = find_loan(pub, data);
	if (loan == NULL || len > (*loan)->len)
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN
		    ": no loan of this handle with %zu bytes: commit what bus_pub_loan() gave",
		    pub->topic->name, len);
	item = (struct ring_item){.block = *loan, .len = (uint32_t)len, .type = (uint8_t)pub->type};
	bus__block_ref(item.block); /* a callback inside may abort the loan */
	err = bus__pub_send_item(pub, &item);
	bus__block_unref(item.block);
	if (err == 0)
		bus__pub_end_loan(pub, data);
	return err;
}

void
bus_pub_abort(struct bus_pub *pub, void *data)
{
	if (pub != NULL && pub->bus->fork_generation == bus__fork_generation())
		bus__pub_end_loan(pub, data);
}
