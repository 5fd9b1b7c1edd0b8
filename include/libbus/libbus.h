/* libbus/libbus.h: all of libbus in one include. */
#ifndef LIBBUS_H
#define LIBBUS_H

#include <libbus/access.h>
#include <libbus/bus.h>
#include <libbus/cert.h>
#include <libbus/error.h>
#include <libbus/export.h>
#include <libbus/own_transport.h>
#include <libbus/pack.h>
#include <libbus/push.h>
#include <libbus/transport.h>
#include <libbus/version.h>

#endif
