package config

// builtIn is the name of the source that the defaults come from.
const builtIn = "the defaults"

// defaults are the settings of an agent that is told nothing. Keys that are not
// here are empty, off or derived.
const defaults = `
datacenter   = "dc1"
bind_addr    = "0.0.0.0"
client_addr  = "127.0.0.1"
domain       = "consul."
log_level    = "INFO"

disable_host_node_id = true

ports {
  dns      = 8600
  http     = 8500
  https    = -1
  server   = 8300
  serf_lan = 8301
  serf_wan = 8302
}

log_rotate_duration = "24h"
syslog_facility     = "LOCAL0"

retry_interval        = "30s"
reconnect_timeout     = "72h"
server_rejoin_age_max = "168h"

encrypt_verify_incoming = true
encrypt_verify_outgoing = true

gossip_lan {
  gossip_interval = "200ms"
  gossip_nodes    = 3
  probe_interval  = "1s"
  probe_timeout   = "500ms"
  suspicion_mult  = 4
  retransmit_mult = 4
}

autopilot {
  cleanup_dead_servers      = true
  last_contact_threshold    = "200ms"
  max_trailing_logs         = 250
  min_quorum                = 0
  server_stabilization_time = "10s"
}

dns_config {
  allow_stale                    = true
  max_stale                      = "87600h"
  udp_answer_limit               = 3
  enable_additional_node_meta_txt = true
  soa {
    refresh = 3600
    retry   = 600
    expire  = 86400
    min_ttl = 0
  }
}

http_config {
  use_cache = true
}

default_query_time = "300s"
max_query_time     = "600s"

check_update_interval = "5m"
check_output_max_size = 4096

raft_snapshot_threshold = 16384
raft_snapshot_interval  = "30s"
raft_trailing_logs      = 10240

performance {
  raft_multiplier  = 2
  leave_drain_time = "5s"
  rpc_hold_timeout = "7s"
}

limits {
  http_max_conns_per_client = 200
  rpc_max_conns_per_client  = 100
  rpc_handshake_timeout     = "5s"
  rpc_client_timeout        = "60s"
  rpc_rate                  = -1.0
  rpc_max_burst             = 1000
  request_limits {
    mode       = "disabled"
    read_rate  = -1.0
    write_rate = -1.0
  }
  kv_max_value_size         = 524288
  txn_max_req_len           = 524288
}
`

// devDefaults are the settings that -dev puts over the defaults.
const devDefaults = `
server       = true
bootstrap    = true
bind_addr    = "127.0.0.1"
log_level    = "DEBUG"
enable_debug = true

gossip_lan {
  gossip_interval = "100ms"
  probe_interval  = "100ms"
  probe_timeout   = "100ms"
}

performance {
  raft_multiplier = 1
}
`

// defaultMultiplier is what an explicit raft_multiplier of zero stands for.
const defaultMultiplier = 2
