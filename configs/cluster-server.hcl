# One of three servers. The same file serves on all three machines, here
# 10.0.0.11, 10.0.0.12 and 10.0.0.13:
#
#     muster agent -config-file configs/cluster-server.hcl
#
# The first election waits until all three are there. After that the cluster
# works as long as two of them do. Other machines run cluster-client.hcl.

datacenter = "dc1"

# Without a name, the host's is taken. No two agents may have the same one.
# node_name = "server1"

server           = true
bootstrap_expect = 3

# Whom to join: any agent that is up tells of all others, so this may name this
# machine too. A DNS name stands for all of its addresses. It is tried until it
# succeeds, and has no say any more once this agent knows others.
retry_join     = ["10.0.0.11", "10.0.0.12", "10.0.0.13"]
retry_interval = "10s"

# Where the state is kept. A server that loses it joins again as a new one, and
# gets the state from the others.
data_dir = "/var/lib/muster"

# The address for other agents. Without it, agents listen on all addresses and
# tell others the only private one that this machine has. It may change between
# two starts.
# bind_addr = "{{ GetInterfaceIP \"eth0\" }}"

# What agents say to each other by gossip can be encrypted, with the same key on
# all of them. To make one: head -c 32 /dev/urandom | base64
# encrypt = "..."

# The addresses for clients, HTTP and DNS. There is no access control yet, so
# leave this on the loopback address, and run an agent on each machine that has
# clients.
client_addr = "127.0.0.1"

ports {
  serf_wan = -1 # gossip between datacenters: off
}

performance {
  # Raft's timeouts, in steps of half a second. 1 finds a dead leader soonest and
  # wants disks and a network of one's own.
  raft_multiplier = 1
}

# What a new cluster begins with; "muster operator autopilot set-config" changes
# it later.
autopilot {
  # Servers that failed are removed once another one has taken their place.
  # Without min_quorum, the number of servers that are to vote, they are removed
  # within half a minute, as long as a majority is left.
  cleanup_dead_servers = true
  min_quorum           = 3

  # How long a new server must have been healthy before it may vote.
  server_stabilization_time = "10s"
}

log_level = "info"
