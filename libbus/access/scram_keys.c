#include "access/scram_keys.h"

int
bus__scram_keys(const uint8_t salted[BUS__SHA512], struct bus__scram_keys *ret_keys)
{
	static const char client[] = "Client Key", server[] = "Server Key";
	int err =
	    bus__hmac_sha512(salted, BUS__SHA512, client, sizeof client - 1, ret_keys->client);

	return err < 0 ? err
		       : bus__hmac_sha512(
			     salted, BUS__SHA512, server, sizeof server - 1, ret_keys->server);
}

int
bus__scram_stored_key(const struct bus__scram_keys *keys, uint8_t ret_stored_key[BUS__SHA512])
{
	return bus__sha512(keys->client, sizeof keys->client, ret_stored_key);
}
