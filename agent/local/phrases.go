package local

// Messages of the log. People search their logs for them: never change one.
const (
	logSyncedService   = "Synced service"
	logSyncedCheck     = "Synced check"
	logSyncedNode      = "Synced node info"
	logGoneService     = "Deregistered service"
	logGoneCheck       = "Deregistered check"
	logCheckCritical   = "Check is now critical"
	logSyncFailed      = "Failed to sync changes"
	logRefused         = "The catalog refused an entry"
	logReaped          = "Check was critical for too long, removing its service"
	logReapFailed      = "Cannot remove a service that was critical for too long"
	logShortDeregister = "Time until a critical service is removed is below the minimum"
	logSameCheckID     = "Two checks of a service have the same ID, the later one counts"
	logTemporary       = "Removed what an interrupted write left behind"
	logFinished        = "Finished a registration that was under way when the agent ended"
	logDamagedFile     = "Cannot read a persisted definition, it is left as it is"
	logOrphan          = "Left out a persisted check, perhaps its service is in a damaged file"
	logPurged          = "Removed a persisted definition"
	logForeign         = "Removing what is not registered at this agent from its node in the catalog"
	logForeignKept     = "The catalog has something under this node that is not registered at this agent"
	logOverwritten     = "Others changed an entry of this agent in the catalog, it is written anew"
	logTakenAway       = "Others removed an entry of this agent from the catalog, it is written anew"
	logKeptDamaged     = "Left an entry in the catalog whose persisted definition cannot be read"
	logStateFile       = "Cannot keep the state of a TTL check"
)
