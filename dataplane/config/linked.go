package config

// A message that nothing else here names must be linked all the same: one that
// the program does not know cannot be unpacked, and would be refused.
import _ "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
