/* bus/words.h: the words for a mailbox's policies and losses, in texts and notices. */
#ifndef BUS_BUS_WORDS_H
#define BUS_BUS_WORDS_H

/* By enum bus_full and enum bus_loss; those of a loss are keys of $bus/drops too. */
extern const char *const bus__policy_words[];
extern const char *const bus__loss_words[];

#endif
