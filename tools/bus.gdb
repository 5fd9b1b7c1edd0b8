# gdb -x tools/bus.gdb PROGRAM CORE, then: frame function FUNCTION, bus-mailboxes EXPRESSION. docs/internals/debugging.md shows an example.
set pagination off
set print pretty on

define bus-mailboxes
	set $m = ((struct bus *)($arg0))->mailboxes
	while $m
		printf "mailbox %u: tail %lu out %lu head %lu of %lu bytes, sleeps %d, closed %d\n", $m->number, $m->ring.tail & ~7, \
			$m->ring.out, $m->ring.head, $m->ring.size, $m->ring.tail & 1, $m->closed
		printf "  delivered %lu read %lu dropped %lu evicted %lu lapped %lu expired %lu\n", $m->delivered, $m->read, \
			$m->ring.dropped, $m->ring.evicted, $m->lapped, $m->expired
		set $m = $m->next
	end
end
document bus-mailboxes
Each mailbox of a struct bus *: where its ring stands, whether its drainer sleeps, and its counters.
end

define bus-log
	set $l = ((struct bus *)($arg0))->log
	set $t = $l->shared->tail
	printf "log %s, this process is member %u\n", $l->path, $l->member
	printf "  tail at %lu, owner %ld (-1: free), readers sleep %d, writers wait %d\n", ($t >> 12) * 8, \
		(long)(($t >> 2) & 1023) - 1, $t & 1, ($t >> 1) & 1
end
document bus-log
The log of a named struct bus *: where its tail is, and which member owns it.
end
