/* core/explain.h: what people are told. */
#ifndef BUS_CORE_EXPLAIN_H
#define BUS_CORE_EXPLAIN_H

/* enum bus_full and enum bus_loss in words; those of a loss are keys of $bus/drops too. */
extern const char *const bus__policy_words[];
extern const char *const bus__loss_words[];

#endif
