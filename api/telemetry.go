package api

// Metrics is what was measured in one interval, as clients read it.
type Metrics struct {
	// Timestamp is when the interval began.
	Timestamp string
	Gauges    []Gauge
	Points    []Point
	Counters  []Sample
	Samples   []Sample
}

// Gauge is a value as it was last.
type Gauge struct {
	Name   string
	Value  float64
	Labels map[string]string
}

// Point is a list of values as they came.
type Point struct {
	Name   string
	Points []float32
}

// Sample is what came together under a name. Times are in milliseconds, and Rate
// is the sum for each second.
type Sample struct {
	Name   string
	Count  int
	Rate   float64
	Sum    float64
	Min    float64
	Max    float64
	Mean   float64
	Stddev float64
	Labels map[string]string
}

// Host describes the machine that an agent runs on. Sizes are in bytes.
type Host struct {
	Memory *HostMemory
	CPU    []HostCPU
	Host   *HostSystem
	Disk   *HostDisk
	// CollectionTime is when this was put together, in nanoseconds of Unix time.
	CollectionTime int64
	// Errors say what could not be found out; null if all could.
	Errors []string
}

// HostMemory is how much memory a machine has.
type HostMemory struct {
	Total       uint64  `json:"total"`
	Available   uint64  `json:"available"`
	Used        uint64  `json:"used"`
	UsedPercent float64 `json:"usedPercent"`
	Free        uint64  `json:"free"`
	Buffers     uint64  `json:"buffers"`
	Cached      uint64  `json:"cached"`
	SwapTotal   uint64  `json:"swapTotal"`
	SwapFree    uint64  `json:"swapFree"`
}

// HostCPU is one processor that the system sees.
type HostCPU struct {
	CPU       int      `json:"cpu"`
	VendorID  string   `json:"vendorId"`
	Family    string   `json:"family"`
	Model     string   `json:"model"`
	Cores     int      `json:"cores"`
	ModelName string   `json:"modelName"`
	MHz       float64  `json:"mhz"`
	CacheSize int      `json:"cacheSize"` // KiB
	Flags     []string `json:"flags"`
}

// HostSystem is what a machine runs.
type HostSystem struct {
	Hostname        string `json:"hostname"`
	Uptime          uint64 `json:"uptime"`   // seconds
	BootTime        uint64 `json:"bootTime"` // Unix seconds
	Procs           uint64 `json:"procs"`
	OS              string `json:"os"`
	Platform        string `json:"platform"`
	PlatformFamily  string `json:"platformFamily"`
	PlatformVersion string `json:"platformVersion"`
	KernelVersion   string `json:"kernelVersion"`
	KernelArch      string `json:"kernelArch"`
	HostID          string `json:"hostId"`
}

// HostDisk is the file system that the agent keeps its data on.
type HostDisk struct {
	Path              string  `json:"path"`
	Fstype            string  `json:"fstype"`
	Total             uint64  `json:"total"`
	Free              uint64  `json:"free"`
	Used              uint64  `json:"used"`
	UsedPercent       float64 `json:"usedPercent"`
	InodesTotal       uint64  `json:"inodesTotal"`
	InodesUsed        uint64  `json:"inodesUsed"`
	InodesFree        uint64  `json:"inodesFree"`
	InodesUsedPercent float64 `json:"inodesUsedPercent"`
}
