/* numbers.c: arrays of numbers in payloads, which NumPy, array and memoryview read in place. */
#include "core.h"

#include <string.h>

#include "value/ext.h"

/* Keeps the bytes of an array alive. Programs see a memoryview of it. */
struct numbers_object {
	PyObject_HEAD struct owner owner;
	struct bus_numbers numbers;
};

/* Shape and strides of a Py_buffer. */
struct layout {
	Py_ssize_t shape[BUS_NUMBERS_DIMENSIONS], strides[BUS_NUMBERS_DIMENSIONS];
};

/* The struct format that memoryview can index: native sizes, if the machine has the payload's byte order. */
static char *
format_of(const struct bus_numbers *numbers)
{
	static const struct {
		char kind;
		uint8_t item_bytes;
		const char *native, *other;
	} formats[] = {
	    {'b', 1, "?", "?"},
	    {'i', 1, "b", "b"},
	    {'i', 2, "h", "<h"},
	    {'i', 4, "i", "<i"},
	    {'i', 8, sizeof(long) == 8 ? "l" : "q", "<q"},
	    {'u', 1, "B", "B"},
	    {'u', 2, "H", "<H"},
	    {'u', 4, "I", "<I"},
	    {'u', 8, sizeof(long) == 8 ? "L" : "Q", "<Q"},
	    {'f', 2, "e", "<e"},
	    {'f', 4, "f", "<f"},
	    {'f', 8, "d", "<d"},
	    {'c', 8, "Zf", "<Zf"},
	    {'c', 16, "Zd", "<Zd"},
	};
	size_t i = 0;

	while (formats[i].kind != numbers->kind || formats[i].item_bytes != numbers->item_bytes)
		i++;
	return (char *)(PY_BIG_ENDIAN ? formats[i].other : formats[i].native);
}

int
numbers_export(const struct bus_numbers *numbers, PyObject *exporter, Py_buffer *view, int flags)
{
	struct layout *layout;
	Py_ssize_t stride = numbers->item_bytes;

	if ((flags & PyBUF_WRITABLE) != 0) {
		PyErr_SetString(PyExc_BufferError, "a payload is read-only: copy it to change it");
		return -1;
	}
	if ((flags & PyBUF_ND) == 0 && numbers->dimensions > 1) {
		PyErr_SetString(PyExc_BufferError,
		    "an array of several dimensions has no flat buffer: ask for its shape (PyBUF_ND)");
		return -1;
	}
	layout = PyMem_Malloc(sizeof *layout);
	if (layout == NULL) {
		PyErr_NoMemory();
		return -1;
	}
	for (int i = numbers->dimensions - 1; i >= 0; i--) {
		layout->shape[i] = (Py_ssize_t)numbers->shape[i];
		layout->strides[i] = stride;
		stride *= layout->shape[i];
	}
	*view = (Py_buffer){
	    .buf = (void *)numbers->data,
	    .obj = Py_NewRef(exporter),
	    .len = (Py_ssize_t)numbers->len,
	    .itemsize = numbers->item_bytes,
	    .readonly = 1,
	    .ndim = numbers->dimensions,
	    .format = (flags & PyBUF_FORMAT) != 0 ? format_of(numbers) : NULL,
	    .shape = (flags & PyBUF_ND) != 0 ? layout->shape : NULL,
	    .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? layout->strides : NULL,
	    .internal = layout,
	};
	return 0;
}

void
numbers_release(Py_buffer *view)
{
	PyMem_Free(view->internal);
}

static int
numbers_getbuffer(struct numbers_object *self, Py_buffer *view, int flags)
{
	return numbers_export(&self->numbers, (PyObject *)self, view, flags);
}

static void
numbers_releasebuffer(struct numbers_object *self, Py_buffer *view)
{
	(void)self;
	numbers_release(view);
}

static void
numbers_dealloc(struct numbers_object *self)
{
	PyTypeObject *type = Py_TYPE(self);

	letter_free(self->owner.letter);
	Py_XDECREF(self->owner.bytes);
	PyObject_Free(self);
	Py_DECREF(type);
}

PyObject *
numbers_view(struct core *core, const struct bus_numbers *numbers, const struct owner *owner)
{
	struct numbers_object *self = PyObject_New(struct numbers_object, core->numbers);
	PyObject *view;

	if (self == NULL)
		return NULL;
	self->numbers = *numbers;
	self->owner.letter = owner->letter != NULL ? letter_share(owner->letter) : NULL;
	self->owner.bytes = Py_XNewRef(owner->bytes);
	view = PyMemoryView_FromObject((PyObject *)self);
	Py_DECREF(self);
	return view;
}

/* Reads the head of a msgpack extension; the array behind it may be long. */
bool
numbers_are_all(const char *data, size_t len, struct bus_numbers *ret_numbers)
{
	const unsigned char *at = (const unsigned char *)data;
	unsigned size_bytes;
	size_t size = 0;

	if (len < 2 || *at < 0xc7 || *at > 0xd8 || (*at > 0xc9 && *at < 0xd4))
		return false;
	size_bytes = *at <= 0xc9 ? 1u << (*at - 0xc7) : 0;
	if (size_bytes == 0)
		size = (size_t)1 << (*at - 0xd4);
	if (len < 2 + (size_t)size_bytes)
		return false;
	for (unsigned i = 1; i <= size_bytes; i++)
		size = size << 8 | at[i];
	return (int8_t)at[1 + size_bytes] == BUS_EXT_NUMBERS && size == len - 2 - size_bytes &&
	       bus__numbers_read(data + 2 + size_bytes, size, ret_numbers);
}

static PyType_Slot numbers_slots[] = {
    {Py_tp_doc, "The memory of an array in a payload."},
    {Py_tp_dealloc, numbers_dealloc},
    {Py_bf_getbuffer, numbers_getbuffer},
    {Py_bf_releasebuffer, numbers_releasebuffer},
    {0, NULL},
};

PyType_Spec numbers_spec = {
    .name = "libbus._core.Numbers",
    .basicsize = sizeof(struct numbers_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = numbers_slots,
};

int
path_or_none(PyObject *path, void *ret_bytes)
{
	if (path == Py_None || path == NULL)
		return 1;
	return PyUnicode_FSConverter(path, ret_bytes);
}
