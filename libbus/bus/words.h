/* bus/words.h: names of what a mailbox does and loses, as people and programs read them. */
#ifndef BUS_BUS_WORDS_H
#define BUS_BUS_WORDS_H

/* enum bus_full and enum bus_loss in words; those of a loss are keys of $bus/drops too. */
extern const char *const bus__policy_words[];
extern const char *const bus__loss_words[];

#endif
