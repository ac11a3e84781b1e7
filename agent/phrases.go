package agent

// Phrases that people search logs for. They do not change.
const (
	PhraseRunning      = "Muster agent running!"
	PhraseStopped      = "Agent stopped"
	PhraseLeading      = "cluster leadership acquired"
	PhraseNotLeading   = "cluster leadership lost"
	PhraseHTTP         = "Starting server"
	PhraseDNS          = "Started DNS server"
	PhraseAskedToLeave = "Graceful leave requested over HTTP"
	PhraseJoined       = "Join cluster completed"
	PhraseMoved        = "This agent moved to another cluster, whose servers took the place of its own: its services and checks are registered there anew"
	PhraseDiffers      = "This server's state is not what the others have: it answers nothing until it has taken the leader's over"
	PhraseGoesOn       = "No other server has a state that could be taken over: this one goes on with its own. Compare it with your newest snapshot, and restore that if something is missing"

	PhraseRestored  = "The state was replaced by an archive's"
	PhraseForeign   = "The archive that was restored is that of another cluster"
	PhraseMinQuorum = "MinQuorum of autopilot is more than there are voters: no voter that fails is removed until there are more"

	PhraseReloaded     = "A setting was taken over"
	PhraseNeedsRestart = "A setting changed and needs a restart"

	PhraseLinesDropped = "Lines were dropped: the client does not keep up"
)
