# The service of compose.yaml, beside an agent that shares its network.
service {
  name = "demo"
  port = 8080

  check {
    name     = "HTTP on port 8080"
    http     = "http://127.0.0.1:8080/"
    interval = "2s"
    timeout  = "1s"
  }
}
