/* small/idle.c: a bus without links, whose mailbox the program itself looks into, has passed a message and idles
 * until somebody presses Enter. */
#include <libbus/libbus.h>

#include <stdio.h>

int
main(void)
{
	const struct bus_mailbox_config polled = {
	    .size = sizeof polled, .drain = BUS_DRAIN_CALLER, .bytes = 4096};
	struct bus *bus = NULL;
	struct bus_mailbox *mbox = NULL;
	const struct bus_msg *msg;
	int err = bus_open(NULL, NULL, &bus);

	if (err == 0)
		err = bus_mailbox_open(bus, &polled, &mbox);
	if (err == 0)
		err = bus_mailbox_subscribe(mbox, "room/#", NULL, NULL, NULL);
	if (err == 0)
		err = bus_publish(bus, "room/kitchen/temperature", "21.5", 4);
	if (err == 0)
		err = bus_recv(mbox, 0, &msg);
	if (err == 1) {
		puts("idle");
		fflush(stdout);
		getchar();
	}
	bus_mailbox_close(mbox);
	bus_close(bus, 0);

	if (err < 0)
		fprintf(stderr, "small_idle: %s\n", bus_strerror(err));
	return err < 0;
}
