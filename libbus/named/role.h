/* named/role.h: what the end of a bus asks of its roles. */
#ifndef BUS_NAMED_ROLE_H
#define BUS_NAMED_ROLE_H

struct bus;

/* Gives all roles of the bus back. */
void bus__roles_end(struct bus *bus);

#endif
