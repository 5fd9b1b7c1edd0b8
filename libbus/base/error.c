#include <libbus/error.h>
#include <libbus/version.h>

const char *
bus_strerror(int err)
{
	if (err >= 0)
		return "success";
	switch (err) {
#define ERROR_TEXT(name, value, text)                                                              \
	case BUS_E_##name:                                                                         \
		return text;
		BUS_ERRORS(ERROR_TEXT)
#undef ERROR_TEXT
	default:
		return "unknown error number";
	}
}

const char *
bus_errname(int err)
{
	if (err >= 0)
		return "BUS_OK";
	switch (err) {
#define ERROR_NAME(name, value, text)                                                              \
	case BUS_E_##name:                                                                         \
		return "BUS_E_" #name;
		BUS_ERRORS(ERROR_NAME)
#undef ERROR_NAME
	default:
		return "BUS_E_?";
	}
}

const char *
bus_version(void)
{
	return LIBBUS_VERSION;
}
