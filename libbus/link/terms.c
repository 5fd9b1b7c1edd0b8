#include "link/terms.h"

#include <string.h>

#include "base/mem.h"

int
bus__setting_copy(const char *text, char **ret_copy)
{
	if (text == NULL)
		return 0;
	*ret_copy = bus__strdup(text);
	return *ret_copy != NULL ? 0 : BUS_E_NOMEM;
}

int
bus__terms_init(struct bus__terms *terms, const struct bus_link_config *cfg,
    const struct bus__address *addr, bool dials)
{
	int err;

	memcpy(terms->host, addr->name, sizeof terms->host);
	terms->dials = dials;
	terms->encrypts = addr->transport->encrypts;
	terms->allow_lan = cfg->allow_lan != 0;
	terms->allow_insecure_remote = cfg->allow_insecure_remote != 0;
	err = bus__setting_copy(cfg->ca_file, &terms->ca_file);
	if (err == 0)
		err = bus__setting_copy(cfg->cert_file, &terms->cert_file);
	if (err == 0)
		err = bus__setting_copy(cfg->key_file, &terms->key_file);
	if (err == 0)
		err = bus__setting_copy(cfg->psk_file, &terms->psk_file);
	return err;
}

void
bus__terms_fini(struct bus__terms *terms)
{
	bus__free(terms->ca_file);
	bus__free(terms->cert_file);
	bus__free(terms->key_file);
	bus__free(terms->psk_file);
}

void
bus__terms_again(const struct bus__terms *terms, struct bus__terms *ret_terms)
{
	*ret_terms = (struct bus__terms){.ca_file = terms->ca_file,
	    .cert_file = terms->cert_file,
	    .key_file = terms->key_file,
	    .psk_file = terms->psk_file,
	    .dials = terms->dials,
	    .encrypts = terms->encrypts};
	memcpy(ret_terms->host, terms->host, sizeof ret_terms->host);
}
