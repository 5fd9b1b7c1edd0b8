/* libbus/cert.h: certificates for tls:// links: a CA of your own, a certificate for this machine, and keys that two machines share.
 * `libbus cert` is these calls.
 *
 * All files are in one directory, NULL: the default one, $XDG_CONFIG_HOME/libbus or ~/.config/libbus, where links look for them:
 *   ca.pem, ca-key.pem           who signs; peers need ca.pem alone, and ca-key.pem stays here
 *   server.pem, server-key.pem   for listeners
 *   NAME.pem, NAME-key.pem       for a client, whose certificate a listener with a ca_file asks for
 *   psk                          lines of identity:key, instead of certificates
 * Keys are of the curve P-256; files are 0600, and a directory that is made 0700. */
#ifndef LIBBUS_CERT_H
#define LIBBUS_CERT_H

#include <stddef.h>
#include <stdint.h>

#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the path of a file of that directory, NUL-terminated. Returns its length; BUS_E_LIMIT: cap is too small; BUS_E_INVAL: no
 * directory is given, and $XDG_CONFIG_HOME and $HOME are not set.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_cert_path(const char *dir, const char *name, char *ret_path, size_t cap);

/* Makes server.pem for these names and addresses, valid for days (0: five years), and the CA first where there is none, for ten years.
 * Replaces an earlier server.pem. BUS_E_INVAL: there is no name, or one that no certificate can have; BUS_E_TLS: a file is not what it
 * should be; BUS_E_SYS: one cannot be written; BUS_E_NOTSUP: this libbus has no mbedTLS. bus_error_text() names it.
 * Threads: any.  Blocks: for files, and milliseconds of CPU.  Callbacks: none run inside. */
BUS_API int bus_cert_server(const char *dir, const char *const *names, size_t count, uint32_t days);

/* The same for NAME.pem of a client; the name is of A-Z, a-z, 0-9, '.', '-' and '_'. */
BUS_API int bus_cert_client(const char *dir, const char *name, uint32_t days);

/* Adds a key for an identity to the file psk, and writes the line, identity:key, which the other machine needs in a file of its own.
 * BUS_E_EXIST: there is one. Others as above; BUS_E_LIMIT: cap is below 256.
 * Threads: any, in one process at a time.  Blocks: for files.  Callbacks: none run inside. */
BUS_API int bus_cert_psk(const char *dir, const char *identity, char *ret_line, size_t cap);

/* Says in one line whom a certificate is for, from when until when, and who signed it. path: of a PEM file. Returns the length of the
 * line; BUS_E_LIMIT: cap is too small.
 * Threads: any.  Blocks: for a file.  Callbacks: none run inside. */
BUS_API int bus_cert_describe(const char *path, char *ret_line, size_t cap);

#ifdef __cplusplus
}
#endif
#endif
