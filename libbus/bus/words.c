/* bus/words.c: the words for a mailbox's policies and losses. */
#include "bus/words.h"

#include <libbus/bus.h>

const char *const bus__policy_words[] = {
    [BUS_FULL_DROP_OLDEST] = "drop_oldest",
    [BUS_FULL_DROP_NEWEST] = "drop_newest",
    [BUS_FULL_LATEST] = "latest",
    [BUS_FULL_REFUSE] = "refuse",
};

const char *const bus__loss_words[BUS_LOSS_COUNT] = {
    [BUS_LOSS_FULL] = "full",
    [BUS_LOSS_REPLACED] = "replaced",
    [BUS_LOSS_EXPIRED] = "expired",
    [BUS_LOSS_UNSUBSCRIBED] = "unsubscribed",
    [BUS_LOSS_CLOSED] = "closed",
    [BUS_LOSS_LAPPED] = "lapped",
    [BUS_LOSS_LINK] = "link",
};
