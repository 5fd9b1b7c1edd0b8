/* Any bytes as any type: a value is read whole and written on one safe line, or refused. The first byte
 * is the type, the rest the payload. */
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
		must(type != BUS_TYPE_UNTAGGED && type != BUS_TYPE_BYTES);
		return 0;
	}
	must(bus_value_json(value, &text, &text_len) == 0);
	must(strlen(text) == text_len && strpbrk(text, "<\n\r\t") == NULL);
	must(strstr(text, "\xE2\x80\xA8") == NULL && strstr(text, "\xE2\x80\xA9") == NULL);
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
