/* Any bytes as any type: a value is read whole and written on one safe line, or refused. With a tree or without, the line is the
 * same. An array of numbers, a time and a text of an extension keep their promises. The first byte is the type, the rest the payload. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <libbus/error.h>
#include <libbus/pack.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void
must(int condition)
{
	if (!condition)
		abort();
}

/* What a program may do with an array: reach its last number by its shape. */
static void
look_at_numbers(const struct bus_value *value)
{
	struct bus_numbers numbers;
	uint64_t count = 1;

	if (bus_value_numbers(value, &numbers) < 0)
		return;
	must(numbers.dimensions <= BUS_NUMBERS_DIMENSIONS && numbers.item_bytes <= 16);
	for (int i = 0; i < numbers.dimensions; i++)
		if (numbers.shape[i] == 0)
			count = 0;
	for (int i = 0; i < numbers.dimensions && count > 0; i++)
		count *= numbers.shape[i];
	must(count * numbers.item_bytes == numbers.len);
	must((const char *)numbers.data + numbers.len == value->as.bytes + value->count);
}

static void
look_at(const struct bus_value *value)
{
	uint32_t inside = value->kind == BUS_KIND_ARRAY ? value->count
			  : value->kind == BUS_KIND_MAP ? 2 * value->count
							: 0;

	if (value->kind == BUS_KIND_TIME)
		must(value->count < 1000000000 && value->as.i >= INT64_C(-62135596800) &&
		     value->as.i <= INT64_C(253402300799));
	if (value->kind == BUS_KIND_TEXT && value->ext != 0)
		must(value->ext >= BUS_EXT_DECIMAL && value->ext <= BUS_EXT_DATE &&
		     value->count > 0);
	if (value->kind == BUS_KIND_EXT)
		look_at_numbers(value);
	for (uint32_t i = 0; i < inside; i++)
		look_at(&value->as.items[i]);
}

/* Without a tree: as with one, or refused with the same code. */
static void
straight(int type, const uint8_t *data, size_t len, int err, const char *with_tree)
{
	char *text;
	size_t text_len;

	must(bus_payload_json(type, data, len, &text, &text_len) == err);
	if (err < 0)
		return;
	must(strlen(text) == text_len && strcmp(text, with_tree) == 0);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const struct bus_value *value;
	char *text;
	size_t text_len;
	int type, err;

	if (len == 0)
		return 0;
	type = data[0] % (BUS_TYPE_TEXT + 2);
	err = bus_value_read(type, data + 1, len - 1, &value);
	if (err < 0) {
		must(err == BUS_E_DECODE);
		straight(type, data + 1, len - 1, err, NULL);
		must(type != BUS_TYPE_UNTAGGED && type != BUS_TYPE_BYTES);
		return 0;
	}
	must(bus_value_json(value, &text, &text_len) == 0);
	must(strlen(text) == text_len && strpbrk(text, "<\n\r\t") == NULL);
	must(strstr(text, "\xE2\x80\xA8") == NULL && strstr(text, "\xE2\x80\xA9") == NULL);
	look_at(value);
	straight(type, data + 1, len - 1, 0, text);
	bus_value_free(value);

	/* The text of JSON is JSON again, with the same text. */
	if (type == BUS_TYPE_JSON) {
		char *again;
		size_t again_len;

		must(bus_value_read(BUS_TYPE_JSON, text, text_len, &value) == 0);
		must(bus_value_json(value, &again, &again_len) == 0);
		must(strcmp(text, again) == 0);
		bus_value_free(value);
		free(again);
	}
	free(text);
	return 0;
}
