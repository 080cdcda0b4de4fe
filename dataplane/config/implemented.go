package config

import "google.golang.org/protobuf/reflect/protoreflect"

// Type URLs of the resources that the data plane takes.
const (
	TypeCluster  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	TypeEndpoint = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	TypeListener = "type.googleapis.com/envoy.config.listener.v3.Listener"
	TypeRoute    = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
)

var messageNames = map[string]protoreflect.FullName{
	TypeCluster:  "envoy.config.cluster.v3.Cluster",
	TypeEndpoint: "envoy.config.endpoint.v3.ClusterLoadAssignment",
	TypeListener: "envoy.config.listener.v3.Listener",
	TypeRoute:    "envoy.config.route.v3.RouteConfiguration",
}

// opaque messages are data, not instructions.
var opaque = map[protoreflect.FullName]bool{
	"google.protobuf.Struct": true,
}

const tlsv3 = "envoy.extensions.transport_sockets.tls.v3."

// implemented lists, for each message, the fields that the data plane acts on
// (or that cannot change what it does, such as stat prefixes). Whatever is not
// here is refused.
var implemented = map[protoreflect.FullName][]string{
	"google.protobuf.BoolValue":   {"value"},
	"google.protobuf.UInt32Value": {"value"},
	"google.protobuf.Duration":    {"seconds", "nanos"},

	"envoy.type.v3.Percent": {"value"},

	"envoy.config.core.v3.Address":                {"socket_address"},
	"envoy.config.core.v3.SocketAddress":          {"protocol", "address", "port_value"},
	"envoy.config.core.v3.SocketOption":           {"description", "level", "name", "int_value", "state"},
	"envoy.config.core.v3.BindConfig":             {"socket_options"},
	"envoy.config.core.v3.TcpKeepalive":           {"keepalive_probes", "keepalive_time", "keepalive_interval"},
	"envoy.config.core.v3.Locality":               {"region", "zone", "sub_zone"},
	"envoy.config.core.v3.Metadata":               {"filter_metadata"},
	"envoy.config.core.v3.TransportSocket":        {"name", "typed_config"},
	"envoy.config.core.v3.DataSource":             {"inline_string", "inline_bytes"},
	"envoy.config.core.v3.ConfigSource":           {"ads", "api_config_source", "resource_api_version", "initial_fetch_timeout"},
	"envoy.config.core.v3.ApiConfigSource":        {"api_type", "transport_api_version", "grpc_services", "set_node_on_first_message_only"},
	"envoy.config.core.v3.GrpcService":            {"envoy_grpc"},
	"envoy.config.core.v3.GrpcService.EnvoyGrpc":  {"cluster_name"},
	"envoy.config.core.v3.AggregatedConfigSource": {},
	"envoy.config.core.v3.TypedExtensionConfig":   {"name", "typed_config"},
	"envoy.config.core.v3.HttpProtocolOptions":    {"idle_timeout", "max_connection_duration", "max_requests_per_connection"},
	"envoy.config.core.v3.Http1ProtocolOptions":   {},
	"envoy.config.core.v3.Http2ProtocolOptions":   {"max_concurrent_streams", "connection_keepalive"},
	"envoy.config.core.v3.KeepaliveSettings":      {"interval", "timeout"},

	"envoy.config.listener.v3.Listener": {
		"name", "address", "additional_addresses", "bind_to_port", "traffic_direction", "use_original_dst", "filter_chains",
		"default_filter_chain", "listener_filters", "listener_filters_timeout", "continue_on_listener_filters_timeout",
		"per_connection_buffer_limit_bytes", "stat_prefix", "metadata",
	},
	"envoy.config.listener.v3.AdditionalAddress": {"address"},
	"envoy.config.listener.v3.ListenerFilter":    {"name", "typed_config"},
	"envoy.config.listener.v3.FilterChain":       {"name", "filter_chain_match", "filters", "transport_socket", "metadata"},
	"envoy.config.listener.v3.FilterChainMatch":  {"destination_port", "server_names", "transport_protocol", "application_protocols", "source_prefix_ranges"},
	"envoy.config.core.v3.CidrRange":             {"address_prefix", "prefix_len"},
	"envoy.config.listener.v3.Filter":            {"name", "typed_config"},

	"envoy.extensions.filters.listener.original_dst.v3.OriginalDst":     {},
	"envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector":   {},
	"envoy.extensions.filters.listener.http_inspector.v3.HttpInspector": {},

	"envoy.extensions.filters.network.sni_cluster.v3.SniCluster": {},
	"envoy.extensions.filters.network.direct_response.v3.Config": {"response"},

	"envoy.extensions.filters.network.set_filter_state.v3.Config":          {"on_new_connection"},
	"envoy.extensions.filters.common.set_filter_state.v3.FilterStateValue": {"object_key", "format_string"},
	"envoy.config.core.v3.SubstitutionFormatString":                        {"text_format_source"},

	"envoy.extensions.filters.network.rbac.v3.RBAC": {"rules", "stat_prefix"},
	"envoy.config.rbac.v3.RBAC":                     {"action", "policies"},
	"envoy.config.rbac.v3.Policy":                   {"permissions", "principals"},
	"envoy.config.rbac.v3.Permission":               {"any"},
	"envoy.config.rbac.v3.Principal":                {"and_ids", "or_ids", "any", "authenticated", "not_id"},
	"envoy.config.rbac.v3.Principal.Set":            {"ids"},
	"envoy.config.rbac.v3.Principal.Authenticated":  {"principal_name"},

	"envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy": {"stat_prefix", "cluster", "max_connect_attempts", "idle_timeout", "max_downstream_connection_duration"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager": {
		"codec_type", "stat_prefix", "rds", "route_config", "http_filters", "upgrade_configs", "use_remote_address",
		"forward_client_cert_details", "set_current_client_cert_details", "stream_idle_timeout", "normalize_path",
		"server_name", "server_header_transformation", "generate_request_id", "local_reply_config",
	},
	"envoy.extensions.filters.network.http_connection_manager.v3.Rds":                                               {"config_source", "route_config_name"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter":                                        {"name", "typed_config"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.UpgradeConfig":               {"upgrade_type", "enabled"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.SetCurrentClientCertDetails": {"uri", "dns"},
	"envoy.extensions.filters.network.http_connection_manager.v3.LocalReplyConfig":                                  {"mappers"},
	"envoy.extensions.filters.network.http_connection_manager.v3.ResponseMapper":                                    {"filter", "headers_to_add"},
	"envoy.config.accesslog.v3.AccessLogFilter":                                                                     {"response_flag_filter"},
	"envoy.config.accesslog.v3.ResponseFlagFilter":                                                                  {"flags"},
	"envoy.config.core.v3.HeaderValueOption":                                                                        {"header", "append_action"},
	"envoy.config.core.v3.HeaderValue":                                                                              {"key", "value"},
	"envoy.extensions.filters.http.router.v3.Router":                                                                {},

	"envoy.config.route.v3.RouteConfiguration":                                        {"name", "virtual_hosts", "validate_clusters", "response_headers_to_remove"},
	"envoy.config.route.v3.VirtualHost":                                               {"name", "domains", "routes"},
	"envoy.config.route.v3.Route":                                                     {"name", "match", "route"},
	"envoy.config.route.v3.RouteMatch":                                                {"prefix"},
	"envoy.config.route.v3.RouteAction":                                               {"cluster", "timeout", "retry_policy"},
	"envoy.config.route.v3.RetryPolicy":                                               {"retry_on", "num_retries", "retry_host_predicate", "host_selection_retry_max_attempts", "retry_priority", "retriable_headers"},
	"envoy.config.route.v3.RetryPolicy.RetryHostPredicate":                            {"name", "typed_config"},
	"envoy.config.route.v3.HeaderMatcher":                                             {"name", "present_match"},
	"envoy.config.route.v3.RetryPolicy.RetryPriority":                                 {"name", "typed_config"},
	"envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate":            {},
	"envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig": {"update_frequency"},

	"envoy.config.cluster.v3.Cluster": {
		"name", "alt_stat_name", "type", "eds_cluster_config", "connect_timeout", "lb_policy", "common_lb_config", "circuit_breakers",
		"outlier_detection", "upstream_connection_options", "upstream_bind_config", "typed_extension_protocol_options",
		"transport_socket", "transport_socket_matches", "metadata", "per_connection_buffer_limit_bytes",
	},
	"envoy.config.cluster.v3.Cluster.EdsClusterConfig":                        {"eds_config", "service_name"},
	"envoy.config.cluster.v3.Cluster.CommonLbConfig":                          {"healthy_panic_threshold", "locality_weighted_lb_config"},
	"envoy.config.cluster.v3.Cluster.CommonLbConfig.LocalityWeightedLbConfig": {},
	"envoy.config.cluster.v3.Cluster.TransportSocketMatch":                    {"name", "match", "transport_socket"},
	"envoy.config.cluster.v3.CircuitBreakers":                                 {"thresholds"},
	"envoy.config.cluster.v3.CircuitBreakers.Thresholds":                      {"priority", "max_connections", "max_pending_requests", "max_requests", "max_retries"},
	"envoy.config.cluster.v3.UpstreamConnectionOptions":                       {"tcp_keepalive"},
	"envoy.config.cluster.v3.OutlierDetection": {
		"consecutive_5xx", "enforcing_consecutive_5xx", "consecutive_gateway_failure", "enforcing_consecutive_gateway_failure",
		"split_external_local_origin_errors", "consecutive_local_origin_failure", "enforcing_consecutive_local_origin_failure",
		"enforcing_success_rate", "enforcing_local_origin_success_rate", "enforcing_failure_percentage", "enforcing_failure_percentage_local_origin",
		"interval", "base_ejection_time", "max_ejection_time", "max_ejection_percent",
	},
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":                         {"common_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config"},
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.ExplicitHttpConfig":      {"http_protocol_options", "http2_protocol_options"},
	"envoy.extensions.upstreams.http.v3.HttpProtocolOptions.UseDownstreamHttpConfig": {"http_protocol_options", "http2_protocol_options"},

	"envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer":    {},
	tlsv3 + "UpstreamTlsContext":                                    {"common_tls_context", "sni"},
	tlsv3 + "DownstreamTlsContext":                                  {"common_tls_context", "require_client_certificate"},
	tlsv3 + "CommonTlsContext":                                      {"tls_params", "tls_certificate_sds_secret_configs", "combined_validation_context", "validation_context_sds_secret_config", "alpn_protocols"},
	tlsv3 + "CommonTlsContext.CombinedCertificateValidationContext": {"default_validation_context", "validation_context_sds_secret_config"},
	tlsv3 + "CertificateValidationContext":                          {"match_typed_subject_alt_names"},
	tlsv3 + "SubjectAltNameMatcher":                                 {"san_type", "matcher"},
	tlsv3 + "TlsParameters":                                         {"tls_minimum_protocol_version", "tls_maximum_protocol_version"},
	tlsv3 + "SdsSecretConfig":                                       {"name", "sds_config"},
	"envoy.type.matcher.v3.StringMatcher":                           {"exact"},

	"envoy.config.endpoint.v3.ClusterLoadAssignment":        {"cluster_name", "endpoints", "policy"},
	"envoy.config.endpoint.v3.ClusterLoadAssignment.Policy": {"overprovisioning_factor"},
	"envoy.config.endpoint.v3.LocalityLbEndpoints":          {"locality", "lb_endpoints", "load_balancing_weight", "priority", "metadata"},
	"envoy.config.endpoint.v3.LbEndpoint":                   {"endpoint", "health_status", "metadata", "load_balancing_weight"},
	"envoy.config.endpoint.v3.Endpoint":                     {"address", "hostname"},
}

// enums lists the implemented values other than zero.
var enums = map[protoreflect.FullName][]string{
	"envoy.config.core.v3.TrafficDirection":                     {"INBOUND", "OUTBOUND"},
	"envoy.config.core.v3.HeaderValueOption.HeaderAppendAction": {"OVERWRITE_IF_EXISTS_OR_ADD"},
	"envoy.config.core.v3.ApiVersion":                           {"V3"},
	"envoy.config.core.v3.ApiConfigSource.ApiType":              {"GRPC", "DELTA_GRPC"},
	"envoy.config.core.v3.HealthStatus":                         {"HEALTHY", "UNHEALTHY", "DRAINING", "TIMEOUT", "DEGRADED"},
	"envoy.config.cluster.v3.Cluster.DiscoveryType":             {"EDS", "ORIGINAL_DST"},
	"envoy.config.cluster.v3.Cluster.LbPolicy":                  {"LEAST_REQUEST", "CLUSTER_PROVIDED"},
	tlsv3 + "TlsParameters.TlsProtocol":                         {"TLSv1_3"},
	tlsv3 + "SubjectAltNameMatcher.SanType":                     {"DNS", "URI"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ForwardClientCertDetails":   {"SANITIZE_SET"},
	"envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager.ServerHeaderTransformation": {"PASS_THROUGH"},
}
