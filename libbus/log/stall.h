/* log/stall.h: the places where tests stop a writer or a reader, to kill it there. Nothing in a real build. */
#ifndef BUS_LOG_STALL_H
#define BUS_LOG_STALL_H

enum log_stall {
	LOG_STALL_LOCKED,    /* the tail is ours, nothing was written */
	LOG_STALL_COPIED,    /* half of the records are behind the tail */
	LOG_STALL_PUBLISH,   /* all of them */
	LOG_STALL_WAKE,      /* published, readers not woken yet */
	LOG_STALL_SEALED,    /* about to take the tail from another */
	LOG_STALL_ENDED,     /* a segment has its end, the next is not chosen */
	LOG_STALL_CLAIMED,   /* memory for the next one is ours, not announced yet */
	LOG_STALL_DIRECTORY, /* the directory names it, it is not open */
	LOG_STALL_ROLL,      /* it is open, the tail is not there yet */
	LOG_STALL_CARRIED,   /* values were copied behind the tail */
	LOG_STALL_PIN,       /* a reader holds a segment that it has not looked at */
	LOG_STALL_ASKED,     /* a reader asks for a place, and has not counted what others hold */
	LOG_STALL_MOVES, /* this writer is about to claim memory with values; one of the next two follows */
	LOG_STALL_MOVED,  /* these values are published in the new segment */
	LOG_STALL_UNMOVED /* this writer gave the claim back, or lost the tail */
};

#ifdef BUS_LOG_STALLS
extern void (*bus__log_stall_hook)(enum log_stall where);
#define bus__log_stall(where)                                                                      \
	do {                                                                                       \
		if (bus__log_stall_hook != NULL)                                                   \
			bus__log_stall_hook(where);                                                \
	} while (0)
#else
#define bus__log_stall(where) ((void)0)
#endif

#endif
