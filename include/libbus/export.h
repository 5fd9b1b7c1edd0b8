/* libbus/export.h: marks what the shared library shows; everything else is hidden. */
#ifndef LIBBUS_EXPORT_H
#define LIBBUS_EXPORT_H

#define BUS_API __attribute__((visibility("default")))

#endif
