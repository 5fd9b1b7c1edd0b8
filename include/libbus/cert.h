/* libbus/cert.h: makes what tls:// links need: a CA of your own, a certificate for this machine, and pre-shared keys.
 * The command `libbus cert` uses these calls.
 *
 * All files are in one directory. NULL is the default one, $XDG_CONFIG_HOME/libbus or ~/.config/libbus, where links look for them:
 *   ca.pem, ca-key.pem           the CA. Peers need ca.pem only; ca-key.pem stays on this machine
 *   server.pem, server-key.pem   for listeners
 *   NAME.pem, NAME-key.pem       for a client of a listener that has a ca_file
 *   psk                          pre-shared keys in place of certificates: lines of identity:key
 * Keys are on the curve P-256. Files get mode 0600, new directories 0700. */
#ifndef LIBBUS_CERT_H
#define LIBBUS_CERT_H

#include <stddef.h>
#include <stdint.h>

#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the path of a file in that directory, NUL-terminated. Returns its length; BUS_E_LIMIT: cap is too small; BUS_E_INVAL: dir is
 * NULL, and neither $XDG_CONFIG_HOME nor $HOME is set.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_cert_path(const char *dir, const char *name, char *ret_path, size_t cap);

/* Makes server.pem for these names and addresses, valid for `days` (0: five years), and replaces an earlier one. A missing CA is made
 * first, valid for ten years. BUS_E_INVAL: no name, or a name that a certificate cannot hold; BUS_E_TLS: the CA's files are malformed or
 * do not match; BUS_E_SYS: a file cannot be read or written; BUS_E_NOTSUP: this libbus has no mbedTLS. bus_error_text() names the
 * file or the name.
 * Threads: any.  Blocks: for files, and milliseconds of CPU.  Callbacks: none run inside. */
BUS_API int bus_cert_server(const char *dir, const char *const *names, size_t count, uint32_t days);

/* The same for a client: makes NAME.pem. name: 1 to 64 of A-Z, a-z, 0-9, '.', '-' and '_', but neither ca nor server. */
BUS_API int bus_cert_client(const char *dir, const char *name, uint32_t days);

/* Adds a new key for an identity to the file psk. Writes its line, identity:key, which the other machine needs in its psk_file.
 * BUS_E_EXIST: the identity has a key already; BUS_E_LIMIT: cap is below 256; others as for bus_cert_server().
 * Threads: any, in one process at a time.  Blocks: for files.  Callbacks: none run inside. */
BUS_API int bus_cert_psk(const char *dir, const char *identity, char *ret_line, size_t cap);

/* Describes the certificate in the PEM file `path` in one line: its names, its dates and its signer. Returns the length of the
 * line; BUS_E_LIMIT: cap is too small.
 * Threads: any.  Blocks: for a file.  Callbacks: none run inside. */
BUS_API int bus_cert_describe(const char *path, char *ret_line, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
