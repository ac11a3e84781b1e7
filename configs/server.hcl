# A server that keeps its state on disk:
#
#     muster agent -config-file configs/server.hcl
#
# server.json says the same in JSON. To check a file before using it:
#
#     muster validate configs/server.hcl

# Who this is. The datacenter is part of DNS names, as in
# web.service.dc1.consul.
datacenter = "dc1"
node_name  = "server1"

# This agent is a server, and the only one: it elects itself.
server           = true
bootstrap_expect = 1

# Where the state is kept. The folder is made if it is not there; the process
# must be allowed to write to it.
data_dir = "/var/lib/muster"

# The address for other agents. An address of the machine, or a template as in
# "{{ GetInterfaceIP \"eth0\" }}".
bind_addr = "127.0.0.1"

# The addresses for clients, HTTP and DNS. There is no access control yet, so
# leave this on the loopback address unless everybody who can reach it may write.
client_addr = "127.0.0.1"

ports {
  http     = 8500 # HTTP interface
  dns      = 8600 # DNS, over UDP and TCP
  server   = 8300 # Raft, and calls between agents
  serf_lan = 8301 # gossip in the datacenter
  serf_wan = -1   # gossip between datacenters: off
}

# trace, debug, info, warn or error.
log_level = "info"

# Stay in the cluster when the process is told to stop, to come back later.
leave_on_terminate      = false
skip_leave_on_interrupt = true

# The process ID, for scripts that send signals: SIGHUP reads these files again.
#
# pid_file = "/run/muster.pid"

performance {
  # Raft's timeouts, in steps of half a second. More of it bears slower disks
  # and networks, and makes an election take longer.
  raft_multiplier = 2
}

limits {
  # Bytes of a value in the key/value store.
  kv_max_value_size = 524288

  # Connections to the HTTP interface from one address.
  http_max_conns_per_client = 200
}
