/* host_sensors.c: publishes the load and the sensors of this machine, once a second. Try --help. */
#define _POSIX_C_SOURCE 200809L
#include <libbus/libbus.h>

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "host_read.h"

static const char help[] =
    "Usage: host_sensors [--bus NAME] [--listen URL]... [--dial URL]... [--print] [OPTION]...\n"
    "\n"
    "Publishes CPU load, memory, disk and network rates and temperatures of this machine\n"
    "on topics like host/NAME/cpu/0, each as one number, retained. Missing sensors are not\n"
    "published; rates begin with the second round.\n"
    "\n"
    "  --bus NAME      publish on this named bus; every program of this user may open it\n"
    "  --listen URL    accept connections at ipc:///tmp/host.sock, tcp://127.0.0.1:5555\n"
    "  --dial URL      connect to this address, and reconnect when the connection is lost\n"
    "  --print         print each topic and value too\n"
    "  --interval MS   milliseconds from round to round (1000)\n"
    "  --count N       end after N rounds\n"
    "  --host NAME     the NAME in the topics (the machine's host name)\n"
    "  --root DIR      read DIR/proc and DIR/sys, such as a copy from another machine\n"
    "  --help          this text\n"
    "\n"
    "Example, in two terminals:\n"
    "  host_sensors --bus sensors\n"
    "  libbus sub sensors 'host/+/temperature/#'\n"
    "\n"
    "Exit status: 0 ended by --count, Ctrl-C or SIGTERM; 1 failure; 2 wrong option.\n";

enum status { STATUS_OK, STATUS_FAILED, STATUS_USAGE };

struct address {
	bool listen;
	const char *url;
};

struct options {
	struct address *addresses;
	int address_count;
	const char *root, *host, *bus; /* bus NULL: a private bus with links */
	long interval_ms, count;
	bool print, help;
};

struct publisher {
	struct bus *bus;
	struct bus_packer *packer;
	const char *host;
	bool print;
};

static void
publish(void *arg, const struct host_reading *reading)
{
	char topic[BUS_LIMIT_TOPIC_BYTES + 1];
	struct bus_msg msg = {
	    .size = sizeof msg, .topic = topic, .type = BUS_TYPE_MSGPACK, .flags = BUS_MSG_RETAIN};
	struct publisher *publisher = arg;
	int err;

	snprintf(topic, sizeof topic, "host/%s/%s", publisher->host, reading->topic);
	bus_packer_reset(publisher->packer);
	if (reading->whole)
		bus_pack_int(publisher->packer, (int64_t)reading->value);
	else
		bus_pack_float(publisher->packer, reading->value);
	err = bus_packer_data(publisher->packer, &msg.data, &msg.len);
	if (err == 0)
		err = bus_publish_msg(publisher->bus, &msg);
	if (err < 0)
		fprintf(stderr, "host_sensors: %s: %s\n", topic, bus_strerror(err));
	if (publisher->print)
		printf(reading->whole ? "%s %.0f\n" : "%s %.12g\n", topic, reading->value);
}

static int64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Waits until time_ns. false: a signal told the program to end. */
static bool
wait_until(int64_t time_ns, const sigset_t *ends)
{
	for (;;) {
		int64_t left = time_ns - now_ns();
		struct timespec ts = {0};

		if (left > 0) {
			ts.tv_sec = (time_t)(left / 1000000000);
			ts.tv_nsec = (long)(left % 1000000000);
		}
		if (sigtimedwait(ends, NULL, &ts) >= 0)
			return false;
		if (errno == EAGAIN)
			return true;
	}
}

static bool
open_addresses(struct bus *bus, const struct options *options)
{
	for (int i = 0; i < options->address_count; i++) {
		const struct address *address = &options->addresses[i];
		int err = address->listen ? bus_listen(bus, address->url, NULL, NULL)
					  : bus_dial(bus, address->url, NULL, NULL);

		if (err < 0) {
			fprintf(stderr, "host_sensors: %s\n", bus_error_text());
			return false;
		}
	}
	return true;
}

static enum status
run(const struct options *options, struct publisher *publisher, struct host *host)
{
	static const int endings[] = {SIGINT, SIGTERM};
	int64_t next = now_ns(), interval = options->interval_ms * INT64_C(1000000);
	sigset_t ends;

	/* Blocked and asked for between rounds: no handler, nothing to race with. Blocked, an ignored one would come
	 * too: it stays as it is. */
	sigemptyset(&ends);
	for (size_t i = 0; i < sizeof endings / sizeof endings[0]; i++) {
		struct sigaction before;

		if (sigaction(endings[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaddset(&ends, endings[i]);
	}
	sigprocmask(SIG_BLOCK, &ends, NULL);

	if (!open_addresses(publisher->bus, options))
		return STATUS_FAILED;
	for (long i = 0; options->count == 0 || i < options->count; i++) {
		if (!wait_until(next, &ends))
			break;
		if (!host_read(host, now_ns(), publish, publisher))
			fprintf(stderr, "host_sensors: %s: %s; trying again\n", options->root,
			    strerror(errno));
		if (fflush(stdout) != 0)
			return STATUS_FAILED;
		next += interval;
		if (next < now_ns()) /* a sensor was slow: skip the rounds that are due */
			next = now_ns();
	}
	return STATUS_OK;
}

static bool
number(const char *option, const char *text, long least, long *ret_number)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (errno || end == text || *end != '\0' || value < least) {
		fprintf(stderr, "host_sensors: --%s %s: give a whole number from %ld up\n", option,
		    text, least);
		return false;
	}
	*ret_number = value;
	return true;
}

static bool
parse(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {
	    {"bus", required_argument, NULL, 'b'},
	    {"listen", required_argument, NULL, 'l'},
	    {"dial", required_argument, NULL, 'd'},
	    {"print", no_argument, NULL, 'p'},
	    {"interval", required_argument, NULL, 'i'},
	    {"count", required_argument, NULL, 'c'},
	    {"host", required_argument, NULL, 'n'},
	    {"root", required_argument, NULL, 'r'},
	    {"help", no_argument, NULL, 'h'},
	    {0},
	};
	int c;

	while ((c = getopt_long(argc, argv, "h", names, NULL)) != -1) {
		switch (c) {
		case 'l':
		case 'd':
			options->addresses[options->address_count++] =
			    (struct address){.listen = c == 'l', .url = optarg};
			break;
		case 'b':
			options->bus = optarg;
			break;
		case 'p':
			options->print = true;
			break;
		case 'i':
			if (!number("interval", optarg, 1, &options->interval_ms))
				return false;
			break;
		case 'c':
			if (!number("count", optarg, 1, &options->count))
				return false;
			break;
		case 'n':
			options->host = optarg;
			break;
		case 'r':
			options->root = optarg;
			break;
		case 'h':
			options->help = true;
			return true;
		default:
			fprintf(stderr, "host_sensors: --help lists the options\n");
			return false;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "host_sensors: %s: unexpected argument; --help lists the options\n",
		    argv[optind]);
		return false;
	}
	if (options->address_count == 0 && options->bus == NULL && !options->print) {
		fprintf(stderr, "host_sensors: no destination: give --bus NAME, --listen URL, "
				"--dial URL or --print\n");
		return false;
	}
	return true;
}

int
main(int argc, char **argv)
{
	struct options options = {.root = "", .interval_ms = 1000};
	struct publisher publisher = {0};
	struct host *host = NULL;
	enum status status = STATUS_USAGE;
	char name[64];
	int err;

	options.addresses = calloc((size_t)argc, sizeof *options.addresses);
	if (options.addresses == NULL || !parse(argc, argv, &options))
		goto free_addresses;
	if (options.help) {
		fputs(help, stdout);
		status = STATUS_OK;
		goto free_addresses;
	}
	if (options.host) {
		host_level(options.host, name, sizeof name);
	} else if (!host_name(options.root, name, sizeof name)) {
		fprintf(stderr,
		    "host_sensors: %s/proc does not have the host's name: check --root, "
		    "or give --host NAME\n",
		    options.root);
		goto free_addresses;
	}

	status = STATUS_FAILED;
	publisher.host = name;
	publisher.print = options.print;
	host = host_new(options.root);
	err = host ? bus_open(options.bus, NULL, &publisher.bus) : BUS_E_NOMEM;
	if (err == 0)
		err = bus_packer_new(&publisher.packer);
	if (err == 0)
		status = run(&options, &publisher, host);
	else
		fprintf(stderr, "host_sensors: %s: %s\n", options.bus != NULL ? options.bus : "bus",
		    bus_strerror(err));

	bus_close(publisher.bus, 1000); /* waits up to a second for queued messages */
	bus_packer_free(publisher.packer);
	host_free(host);
free_addresses:
	free(options.addresses);
	return (int)status;
}
