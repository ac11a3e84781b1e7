package rpc

import _ "google.golang.org/grpc"
