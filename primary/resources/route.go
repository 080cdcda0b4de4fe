package resources

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
)

// NewRoute returns the route configuration of an outbound HTTP port: all
// requests go to the xds cluster of the same name. It depends on the name
// alone, so all proxies share it.
func NewRoute(key OutboundKey) (*Resource, error) {
	name := key.String()
	action := toCluster(name)
	action.RetryPolicy = retryPolicy()
	config := everything(name, action)
	config.ValidateClusters = boolean(false)
	config.ResponseHeadersToRemove = []string{headerUnreached}
	return seal(Route, name, config)
}

// retryPolicy moves a request that reached nobody to another endpoint, and then
// to another priority.
func retryPolicy() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:    "connect-failure,refused-stream,reset-before-request,retriable-headers",
		NumRetries: u32(3),
		RetriableHeaders: []*routev3.HeaderMatcher{{
			Name:                 headerUnreached,
			HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		}},
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name: "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{
				TypedConfig: pack(new(previoushostsv3.PreviousHostsPredicate)),
			},
		}},
		HostSelectionRetryMaxAttempts: 5,
		RetryPriority: &routev3.RetryPolicy_RetryPriority{
			Name: "envoy.retry_priorities.previous_priorities",
			ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{
				TypedConfig: pack(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 1}),
			},
		},
	}
}
