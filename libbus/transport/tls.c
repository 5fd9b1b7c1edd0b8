/* tls://host:port: tcp:// with encryption and certificates. NNG's TLS is not used: docs/transports.md. */
#include "transport/table.h"

#include <string.h>

#include <libbus/error.h>

#include "base/error_text.h"
#include "base/mem.h"
#include "crypto/files.h"
#include "crypto/tls.h"
#include "transport/tls_stream.h"

#define DIAL_MS 60000 /* as in tcp: for all addresses of a name */

static const struct bus__transport *const tcp = &bus__transport_tcp;

/* --- listening --------------------------------------------------------------------------------------------------------------- */

struct tls_listener {
	struct bus__listener base;
	struct bus__listener *lower;
	const struct bus__terms
	    *terms; /* of its link, which may read its files again: tls is the latest config */
	struct bus__tls_gate *gate;
	struct bus__io lower_io, *io;
};

static void
accepted(void *arg)
{
	struct tls_listener *tls = arg;
	struct bus__stream *lower = tls->lower_io.stream;
	struct bus__io *io = tls->io;
	int err = tls->lower_io.err;

	tls->lower_io.stream = NULL;
	tls->io = NULL;
	if (err == 0) {
		io->stream = bus__tls_stream_new(lower, tls->terms->tls, NULL, tls->gate, io->loop);
		if (io->stream == NULL) {
			lower->ops->free(lower);
			err = BUS_E_NOMEM;
		}
	}
	io->sys = tls->lower_io.sys;
	bus__io_done(io, err, 0);
}

static void
listener_accept(struct bus__listener *listener, struct bus__io *io)
{
	struct tls_listener *tls = (struct tls_listener *)listener;

	tls->io = io;
	tls->gate->loop = io->loop;
	tls->lower_io = (struct bus__io){.task = {.run = accepted, .arg = tls}, .loop = io->loop};
	tls->lower->ops->accept(tls->lower, &tls->lower_io);
}

static void
listener_free(struct bus__listener *listener)
{
	struct tls_listener *tls = (struct tls_listener *)listener;

	tls->lower->ops->free(tls->lower);
	if (tls->io != NULL)
		bus__loop_cancel(tls->io->loop, &tls->lower_io.task);
	if (tls->lower_io.stream != NULL)
		tls->lower_io.stream->ops->free(tls->lower_io.stream);
	bus__tls_gate_unref(tls->gate);
	bus__free(tls);
}

static const struct bus__listener_ops listener_ops = {listener_accept, listener_free};

/* The same address for the transport below. */
static struct bus__address
below(const struct bus__address *addr)
{
	struct bus__address lower = *addr;

	lower.transport = tcp;
	return lower;
}

static int
listen_at(
    struct bus__address *addr, const struct bus__terms *terms, struct bus__listener **ret_listener)
{
	struct bus__address lower = below(addr);
	struct tls_listener *tls = bus__calloc(1, sizeof *tls);
	int err = BUS_E_NOMEM;

	if (tls == NULL)
		return err;
	tls->base.ops = &listener_ops;
	tls->gate = bus__tls_gate_new();
	if (tls->gate != NULL)
		err = tcp->listen(&lower, terms, &tls->lower);
	if (err < 0) {
		bus__tls_gate_unref(tls->gate);
		bus__free(tls);
		return err;
	}
	tls->terms = terms;
	addr->port = lower.port;
	*ret_listener = &tls->base;
	return 0;
}

/* --- dialling ---------------------------------------------------------------------------------------------------------------- */

struct tls_dialer {
	struct bus__dialer base;
	struct bus__dialer *lower;
	struct bus__tls_config *config;
	char host[BUS__URL_NAME];
	struct bus__io lower_io, *io; /* io NULL: completed */
};

static void
dialled(void *arg)
{
	struct tls_dialer *tls = arg;
	struct bus__stream *lower = tls->lower_io.stream;
	struct bus__io *io = tls->io;
	int err = tls->lower_io.err;

	tls->lower_io.stream = NULL;
	tls->io = NULL;
	if (err == 0) {
		io->stream = bus__tls_stream_new(lower, tls->config, tls->host, NULL, io->loop);
		if (io->stream == NULL) {
			lower->ops->free(lower);
			err = BUS_E_NOMEM;
		}
	}
	io->sys = tls->lower_io.sys;
	bus__io_done(io, err, 0);
}

static void
dialer_free(struct bus__dialer *dialer)
{
	struct tls_dialer *tls = (struct tls_dialer *)dialer;

	tls->lower->ops->free(tls->lower);
	bus__loop_cancel(tls->lower_io.loop, &tls->lower_io.task);
	if (tls->lower_io.stream != NULL)
		tls->lower_io.stream->ops->free(tls->lower_io.stream);
	bus__tls_config_unref(tls->config);
	bus__free(tls);
}

static const struct bus__dialer_ops dialer_ops = {dialer_free};

static int
dial(const struct bus__address *addr, const struct bus__terms *terms, struct bus__io *io,
    struct bus__dialer **ret_dialer)
{
	struct bus__address lower = below(addr);
	struct tls_dialer *tls = bus__calloc(1, sizeof *tls);
	int err;

	if (tls == NULL)
		return BUS_E_NOMEM;
	tls->base.ops = &dialer_ops;
	memcpy(tls->host, terms->host, sizeof tls->host);
	tls->io = io;
	tls->lower_io = (struct bus__io){.task = {.run = dialled, .arg = tls}, .loop = io->loop};
	err = tcp->dial(&lower, terms, &tls->lower_io, &tls->lower);
	if (err < 0) {
		bus__free(tls);
		return err;
	}
	tls->config = bus__tls_config_ref(terms->tls);
	*ret_dialer = &tls->base;
	return 0;
}

/* --- files ------------------------------------------------------------------------------------------------------------------- */

static int
check(const struct bus__address *addr, const struct bus__terms *terms, struct bus__address *numeric)
{
	struct bus__address lower = below(addr);
	int err = tcp->check(&lower, terms, numeric);

	numeric->transport = addr->transport;
	return err;
}

/* A copy of a setting, or the default of `libbus cert`. */
static int
choose(const char *given, const char *name, char **ret_path)
{
	*ret_path = given != NULL ? bus__strdup(given) : bus__file_default(name);
	return *ret_path != NULL ? 0 : BUS_E_NOMEM;
}

static int
prepare(struct bus__terms *terms)
{
	struct bus__tls_settings settings = {.dials = terms->dials,
	    .ca_file = terms->ca_file,
	    .cert_file = terms->cert_file,
	    .key_file = terms->key_file,
	    .psk_file = terms->psk_file};
	char reason[BUS__TLS_REASON], *first = NULL, *second = NULL;
	int err = 0;

	if (terms->dials && terms->psk_file == NULL) {
		err = choose(terms->ca_file, "ca.pem", &first);
		settings.ca_file = first;
	} else if (terms->psk_file == NULL && terms->cert_file == NULL) {
		err = choose(NULL, "server.pem", &first);
		if (err == 0)
			err = choose(terms->key_file, "server-key.pem", &second);
		settings.cert_file = first;
		settings.key_file = second;
	}
	if (err == 0)
		err = bus__tls_config_new(&settings, &terms->tls, reason);
	bus__free(first);
	bus__free(second);
	return err == BUS_E_TLS ? bus__fail(err, "tls://%.40s: %s", terms->host, reason) : err;
}

static void
release(struct bus__terms *terms)
{
	bus__tls_config_unref(terms->tls);
}

const struct bus__transport bus__transport_tls = {
    .scheme = "tls",
    .form = &bus__form_host,
    .check = check,
    .prepare = prepare,
    .release = release,
    .listen = listen_at,
    .dial = dial,
    .dial_ms = DIAL_MS,
    .encrypts = true,
};
