/* libbus/pack.h: values inside payloads.
 *
 * The bus moves bytes with a content type; this page turns them into values and back, by one rule for
 * C, Python, the command and pages:
 *   msgpack, JSON, text and bytes are read as what they say;
 *   untagged bytes that are valid JSON give that value, otherwise text if UTF-8, otherwise bytes.
 * Limits, checked before anything is allocated: depth 32, 65,536 elements in all, no bytes left over.
 * docs/payloads.md has the table of types: what is a payload, a value in C and Python, and in a page. */
#ifndef LIBBUS_PACK_H
#define LIBBUS_PACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libbus/bus.h>
#include <libbus/export.h>

#ifdef __cplusplus
extern "C" {
#endif

enum bus_pack_limit {
	BUS_PACK_DEPTH    = 32,    /* arrays and maps inside one another */
	BUS_PACK_ELEMENTS = 65536  /* values in one payload, the containers included */
};

enum bus_kind {
	BUS_KIND_NIL,
	BUS_KIND_BOOL,
	BUS_KIND_INT,   /* fits int64_t */
	BUS_KIND_UINT,  /* above INT64_MAX only */
	BUS_KIND_FLOAT,
	BUS_KIND_TEXT,  /* UTF-8, not NUL-terminated */
	BUS_KIND_BYTES,
	BUS_KIND_ARRAY,
	BUS_KIND_MAP,
	BUS_KIND_EXT,   /* a msgpack extension */
	BUS_KIND_TIME   /* a moment: an extension BUS_EXT_TIME, years 1 to 9999 */
};

/* Numbers of msgpack extensions that have a meaning here. -1 is msgpack's own; 100 to 109 are reserved
 * for libbus. One whose bytes have not the form that its number asks for is read as any other EXT. */
enum bus_ext {
	BUS_EXT_TIME    = -1,  /* a moment, as msgpack defines it: read as TIME */
	BUS_EXT_DECIMAL = 100, /* "-12.50", "1E+9", "Infinity", "NaN": read as TEXT */
	BUS_EXT_UUID    = 101, /* 32 hex digits as 8-4-4-4-12: read as TEXT */
	BUS_EXT_DATE    = 102, /* "2026-11-30": read as TEXT */
	BUS_EXT_NUMBERS = 103  /* an array of numbers of one size: read as EXT, see bus_value_numbers() */
};

/* One value of a tree. Borrowed: lives as long as the bus_value_free() of its root. */
struct bus_value {
	enum bus_kind kind;
	int8_t        ext;   /* EXT: its number; TEXT: of the extension it came in, 0: none */
	uint32_t      count; /* ARRAY: elements; MAP: pairs; TEXT, BYTES, EXT: bytes; TIME: nanoseconds */
	union {
		bool        boolean;
		int64_t     i;                    /* TIME: seconds since 1970, rounded down */
		uint64_t    u;
		double      f;
		const char *bytes;                /* TEXT, BYTES, EXT */
		const struct bus_value *items;    /* ARRAY: count of them; MAP: key, value, key, value, … */
	} as;
};

/* Reads a payload by the rule above. On success *ret_value is yours, to end with bus_value_free(); it
 * copies what it needs. BUS_E_DECODE: not what its type says, or over a limit; BUS_E_NOMEM.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_value_read(int type, const void *data, size_t len, const struct bus_value **ret_value);

/* Frees a tree that bus_value_read() gave; NULL is fine.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API void bus_value_free(const struct bus_value *root);

enum { BUS_NUMBERS_DIMENSIONS = 32 };

/* An array of numbers, the last dimension running fastest. */
struct bus_numbers {
	const void *data;       /* little endian, item_bytes each, on a read of no certain alignment */
	size_t      len;        /* bytes of data: item_bytes times all of shape */
	char        kind;       /* 'b' bool, 'i' signed, 'u' unsigned, 'f' float, 'c' complex: two floats */
	uint8_t     item_bytes; /* b: 1; i and u: 1, 2, 4, 8; f: 2, 4, 8; c: 8, 16 */
	uint8_t     dimensions; /* 0: one number */
	uint32_t    shape[BUS_NUMBERS_DIMENSIONS];
};

/* Reads an EXT of the number BUS_EXT_NUMBERS; ret_numbers->data is borrowed from value.
 * BUS_E_DECODE: value is another one; BUS_E_INVAL: a pointer is NULL.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_value_numbers(const struct bus_value *value, struct bus_numbers *ret_numbers);

/* Writes a value as JSON text on one line, NUL-terminated; *ret_text is yours, to end with free().
 * Bytes and extensions become {"$bytes": base64}, extensions with "$ext": number, arrays of numbers with
 * "$numbers": "f8" and "$shape"; times "2026-11-30T07:51:18Z"; numbers that JSON lacks null; map keys text, in the third map of a key in a key null. Safe inside a page's script. BUS_E_NOMEM.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_value_json(const struct bus_value *value, char **ret_text, size_t *ret_len);

/* The same of a payload, read by the rule above, without a tree where it is msgpack.
 * BUS_E_DECODE as bus_value_read(); BUS_E_NOMEM; BUS_E_INVAL: a pointer is NULL.
 * Threads: any.  Blocks: never.  Callbacks: none run inside. */
BUS_API int bus_payload_json(int type, const void *data, size_t len, char **ret_text, size_t *ret_len);

/* --- writing msgpack ------------------------------------------------------------------------------ */

struct bus_packer; /* a growing buffer; the first error sticks and bus_packer_data() answers it */

/* Makes an empty packer. Ends with bus_packer_free().
 * Threads: one at a time per packer, for all of these.  Blocks: never.  Callbacks: none run inside. */
BUS_API int  bus_packer_new(struct bus_packer **ret_packer);
BUS_API void bus_packer_free(struct bus_packer *packer);

/* Empties it for another payload and forgets a sticking error. */
BUS_API void bus_packer_reset(struct bus_packer *packer);

/* Append one value each. An array is followed by count values, a map by count keys and values.
 * Text must be UTF-8; a time is of the years 1 to 9999, its nanoseconds below 1,000,000,000. On a packer
 * that is NULL they do nothing. */
BUS_API void bus_pack_nil(struct bus_packer *packer);
BUS_API void bus_pack_bool(struct bus_packer *packer, bool value);
BUS_API void bus_pack_int(struct bus_packer *packer, int64_t value);
BUS_API void bus_pack_uint(struct bus_packer *packer, uint64_t value);
BUS_API void bus_pack_float(struct bus_packer *packer, double value);
BUS_API void bus_pack_text(struct bus_packer *packer, const char *text, size_t len);
BUS_API void bus_pack_bytes(struct bus_packer *packer, const void *data, size_t len);
BUS_API void bus_pack_array(struct bus_packer *packer, uint32_t count);
BUS_API void bus_pack_map(struct bus_packer *packer, uint32_t count);
BUS_API void bus_pack_ext(struct bus_packer *packer, int8_t ext, const void *data, size_t len);
BUS_API void bus_pack_time(struct bus_packer *packer, int64_t seconds, uint32_t nanoseconds);
BUS_API void bus_pack_numbers(struct bus_packer *packer, const struct bus_numbers *numbers);

/* Gives the finished payload, borrowed until the next call on packer. BUS_E_NOMEM; BUS_E_DECODE: text
 * that is not UTF-8; BUS_E_LIMIT: deeper or more elements than can be read back; BUS_E_INVAL: an array
 * or a map lacks elements, there is not exactly one value, a pointer is NULL, or a time or an array of
 * numbers is none. */
BUS_API int bus_packer_data(struct bus_packer *packer, const void **ret_data, size_t *ret_len);

#ifdef __cplusplus
}
#endif
#endif
