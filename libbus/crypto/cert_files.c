/* libbus/cert.h: the files of certificates and keys. */
#define _GNU_SOURCE
#include <libbus/cert.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <libbus/error.h>

#include "base/error_text.h"
#include "base/fd.h"
#include "base/mem.h"
#include "base/random.h"
#include "base/thread.h"
#include "crypto/cert.h"
#include "crypto/files.h"
#include "crypto/mbed.h"
#include "crypto/psk.h"
#include "crypto/san.h"
#include "crypto/tls.h"

#define DAY ((time_t)24 * 60 * 60)

enum { SERVER_DAYS = 5 * 365, CA_DAYS = 10 * 365, DAYS_MOST = 100 * 365, PATH_ROOM = 400 };

/* --- files ---------------------------------------------------------------------------------------------------------------------- */

static int
fail_path(const char *path)
{
	int saved = errno;

	return bus__fail(BUS_E_SYS, "%.200s: %s", path, strerror(saved));
}

static int
find(const char *dir, const char *name, char *ret_path, size_t cap)
{
	char *path;
	int len;

	if (dir != NULL) {
		len = snprintf(ret_path, cap, "%s/%s", dir, name);
		return len < (int)cap ? len : BUS_E_LIMIT;
	}
	path = bus__file_default(name);
	if (path == NULL)
		return bus__fail(BUS_E_INVAL,
		    "no directory given, and neither $XDG_CONFIG_HOME nor $HOME is set");
	len = snprintf(ret_path, cap, "%s", path);
	bus__free(path);
	return len < (int)cap ? len : BUS_E_LIMIT;
}

int
bus_cert_path(const char *dir, const char *name, char *ret_path, size_t cap)
{
	if (name == NULL || ret_path == NULL || cap == 0)
		return bus__answer(BUS_E_INVAL);
	return find(dir, name, ret_path, cap);
}

/* Makes the missing directories of a path. */
static int
make_folders(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		int made;

		*slash = '\0';
		made = mkdir(path, 0700);
		*slash = '/';
		if (made != 0 && errno != EEXIST)
			return fail_path(path);
	}
	return 0;
}

static int
write_all(int fd, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = bus__fd_write(fd, text, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}

/* A reader finds the old text or the new one. No other user can read it. */
static int
write_file(char *path, const char *text)
{
	char other[PATH_ROOM + 8];
	int fd, err = make_folders(path);

	if (err < 0)
		return err;
	snprintf(other, sizeof other, "%s.new", path);
	(void)unlink(other);
	fd = bus__fd_above_std(open(other, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	if (fd < 0)
		return fail_path(other);
	if (write_all(fd, text, strlen(text)) != 0 || fsync(fd) != 0 || rename(other, path) != 0) {
		err = fail_path(path);
		(void)unlink(other);
	}
	bus__fd_close(fd);
	return err;
}

static int
read_file(const char *path, bool secret, char **ret_text)
{
	char reason[BUS__TLS_REASON];
	unsigned char *data;
	size_t len;
	int err = bus__file_read(path, secret, &data, &len, reason, sizeof reason);

	if (err == BUS_E_TLS)
		return bus__fail(err, "%s", reason);
	if (err == 0)
		*ret_text = (char *)data;
	return err;
}

/* NAME.pem and NAME-key.pem. */
static int
find_pair(const char *dir, const char *name, char ret_cert[PATH_ROOM], char ret_key[PATH_ROOM])
{
	char file[160];
	int err;

	if (strlen(name) > 64)
		return BUS_E_INVAL;
	snprintf(file, sizeof file, "%s.pem", name);
	err = find(dir, file, ret_cert, PATH_ROOM);
	snprintf(file, sizeof file, "%s-key.pem", name);
	return err < 0 ? err : find(dir, file, ret_key, PATH_ROOM);
}

static int
write_pair(const char *dir, const char *name, const struct bus__cert_pair *pair)
{
	char cert[PATH_ROOM], key[PATH_ROOM];
	int err = find_pair(dir, name, cert, key);

	if (err >= 0)
		err = write_file(key, pair->key);
	return err < 0 ? err : write_file(cert, pair->cert);
}

/* --- certificates ---------------------------------------------------------------------------------------------------------------- */

/* The clocks of small machines can be minutes late, or a day. */
static void
set_days(struct bus__cert_order *order, uint32_t days)
{
	time_t now = time(NULL);

	order->from = now - DAY;
	order->to = now + (time_t)(days < DAYS_MOST ? days : DAYS_MOST) * DAY;
}

/* "libbus CA of HOST", so that people can tell two CAs apart. */
static int
make_ca(const char *dir, struct bus__cert_pair *ret_ca)
{
	struct bus__cert_order order = {.kind = BUS__CERT_CA};
	char host[40] = "", name[64];
	int err;

	(void)gethostname(host, sizeof host - 1);
	snprintf(name, sizeof name, "libbus CA of %s", host);
	order.name = name;
	set_days(&order, CA_DAYS);
	err = bus__cert_make(&order, NULL, ret_ca);
	if (err == BUS_E_INVAL) {
		order.name = "libbus CA";
		err = bus__cert_make(&order, NULL, ret_ca);
	}
	if (err == 0)
		err = write_pair(dir, "ca", ret_ca);
	return err;
}

static int
open_ca(const char *dir, struct bus__cert_pair *ret_ca)
{
	char cert[PATH_ROOM], key[PATH_ROOM];
	int err = find_pair(dir, "ca", cert, key);

	if (err < 0)
		return err;
	if (access(cert, F_OK) != 0 && access(key, F_OK) != 0)
		return make_ca(dir, ret_ca);
	err = read_file(cert, false, &ret_ca->cert);
	return err == 0 ? read_file(key, true, &ret_ca->key) : err;
}

static int
make_cert(const char *dir, const char *file, struct bus__cert_order *order, uint32_t days)
{
	struct bus__cert_pair ca = {NULL, NULL}, pair = {NULL, NULL};
	int err = open_ca(dir, &ca);

	set_days(order, days != 0 ? days : SERVER_DAYS);
	if (err == 0) {
		err = bus__cert_make(order, &ca, &pair);
		if (err == BUS_E_INVAL)
			(void)bus__fail(err,
			    BUS__SHOWN ": not a name or an address that a certificate can hold",
			    order->host_count > 0 ? order->hosts[0] : order->name);
		else if (err == BUS_E_TLS)
			(void)bus__fail(err, "ca.pem and ca-key.pem do not belong together");
	}
	if (err == 0)
		err = write_pair(dir, file, &pair);
	bus__cert_pair_free(&pair);
	bus__cert_pair_free(&ca);
	return err;
}

int
bus_cert_server(const char *dir, const char *const *names, size_t count, uint32_t days)
{
	struct bus__cert_order order = {
	    .kind = BUS__CERT_SERVER, .name = "libbus", .hosts = names, .host_count = count};
	int cancel, err;

	if (names == NULL || count == 0)
		return bus__fail(BUS_E_INVAL, "a certificate needs a name or an address");
	cancel = bus__cancel_off();
	err = make_cert(dir, "server", &order, days);
	bus__cancel_back(cancel);
	return err == BUS_E_NOMEM ? bus__answer(err) : err;
}

int
bus_cert_client(const char *dir, const char *name, uint32_t days)
{
	struct bus__cert_order order = {.kind = BUS__CERT_CLIENT, .name = name};
	int cancel, err;

	if (name == NULL || strchr(name, '/') != NULL || strchr(name, ' ') != NULL ||
	    name[0] == '.' || name[0] == '\0' || strlen(name) > 64 || strcmp(name, "ca") == 0 ||
	    strcmp(name, "server") == 0)
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN
		    ": not a client name: 1 to 64 of A-Z, a-z, 0-9, '.', '-' and '_', and neither ca nor server",
		    name != NULL ? name : "NULL");
	cancel = bus__cancel_off();
	err = make_cert(dir, name, &order, days);
	bus__cancel_back(cancel);
	return err == BUS_E_NOMEM ? bus__answer(err) : err;
}

/* --- keys ------------------------------------------------------------------------------------------------------------------------ */

static int
add_key(char *path, const char *identity, char *ret_line, size_t cap)
{
	struct bus__psk *keys = NULL;
	unsigned char key[BUS__PSK_MOST];
	char *old = NULL, *text;
	unsigned line = 0;
	size_t len;
	int err = access(path, F_OK) == 0 ? read_file(path, true, &old) : 0;

	if (err == 0 && old != NULL)
		err = bus__psk_parse(old, &keys, &line);
	if (err == BUS_E_TLS && line > 0)
		(void)bus__fail(err, "%.200s: line %u is not identity:key", path, line);
	if (err == 0 && bus__psk_find(keys, identity, strlen(identity)) != NULL)
		err = bus__fail(BUS_E_EXIST,
		    BUS__SHOWN ": %.160s has a key for this identity already", identity, path);
	if (err == 0)
		err = bus__random(key, sizeof key);
	if (err < 0)
		goto free_old;
	len = (size_t)snprintf(ret_line, cap, "%s:", identity);
	for (size_t i = 0; i < sizeof key; i++)
		len += (size_t)snprintf(ret_line + len, cap - len, "%02x", key[i]);
	mbedtls_platform_zeroize(key, sizeof key);
	text = bus__malloc((old != NULL ? strlen(old) : 0) + len + 3);
	if (text == NULL) {
		err = BUS_E_NOMEM;
		goto free_old;
	}
	len = old != NULL ? strlen(old) : 0;
	sprintf(text, "%s%s%s\n", old != NULL ? old : "",
	    len > 0 && old[len - 1] != '\n' ? "\n" : "", ret_line);
	err = write_file(path, text);
	bus__file_free((unsigned char *)text, strlen(text));

free_old:
	bus__psk_free(keys);
	if (old != NULL)
		bus__file_free((unsigned char *)old, strlen(old));
	return err;
}

int
bus_cert_psk(const char *dir, const char *identity, char *ret_line, size_t cap)
{
	char path[PATH_ROOM];
	int cancel, err;

	if (identity == NULL || identity[0] == '\0' || identity[0] == '#' ||
	    strlen(identity) >= BUS__PSK_IDENTITY || strpbrk(identity, ": \t\r\n") != NULL)
		return bus__fail(BUS_E_INVAL,
		    BUS__SHOWN ": not an identity: 1 to 127 bytes without ':' and spaces",
		    identity != NULL ? identity : "NULL");
	if (ret_line == NULL || cap < 2 * BUS__PSK_MOST + BUS__PSK_IDENTITY + 2)
		return bus__answer(BUS_E_LIMIT);
	err = find(dir, "psk", path, sizeof path);
	if (err < 0)
		return err;
	cancel = bus__cancel_off();
	err = add_key(path, identity, ret_line, cap);
	bus__cancel_back(cancel);
	return err == BUS_E_NOMEM ? bus__answer(err) : err;
}

/* --- words ------------------------------------------------------------------------------------------------------------------------ */

static int
describe(const mbedtls_x509_crt *cert, char *ret_line, size_t cap)
{
	char names[512], issuer[80];
	const mbedtls_x509_time *from = &cert->valid_from, *to = &cert->valid_to;

	bus__san_write(cert, names, sizeof names);
	bus__common_name(&cert->issuer, issuer, sizeof issuer);
	return snprintf(ret_line, cap,
	    "%s%s; from %04d-%02d-%02d to %04d-%02d-%02d%s; signed by \"%s\"",
	    cert->ca_istrue != 0 ? "a CA: " : "", names, from->year, from->mon, from->day, to->year,
	    to->mon, to->day, mbedtls_x509_time_is_past(to) ? ", EXPIRED" : "", issuer);
}

int
bus_cert_describe(const char *path, char *ret_line, size_t cap)
{
	mbedtls_x509_crt cert;
	char *text = NULL;
	int err, cancel;

	if (path == NULL || ret_line == NULL)
		return bus__answer(BUS_E_INVAL);
	cancel = bus__cancel_off();
	err = read_file(path, false, &text);
	bus__cancel_back(cancel);
	if (err < 0)
		return err == BUS_E_NOMEM ? bus__answer(err) : err;
	mbedtls_x509_crt_init(&cert);
	err = mbedtls_x509_crt_parse(&cert, (const unsigned char *)text, strlen(text) + 1);
	bus__file_free((unsigned char *)text, strlen(text));
	if (err != 0) {
		err = bus__fail(BUS_E_TLS, "%.200s: not a certificate", path);
	} else {
		err = describe(&cert, ret_line, cap);
		if (err >= (int)cap)
			err = bus__fail(
			    BUS_E_LIMIT, "%.200s: the line needs %d bytes", path, err + 1);
	}
	mbedtls_x509_crt_free(&cert);
	return err;
}
