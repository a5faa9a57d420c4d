"""Writes down what voters say to each other, one page a conversation, for a reviewer to read.

      12  2  its stream with 1 broke                              follower, lost
             → 1, 3  would you vote for me in epoch 1? end (2, epoch 1)

Time in ms, the voter, what happened to it, its role afterwards; below, what it ordered.
"""

from controller.raft import effects as fx
from controller.raft import events as ev
from controller.raft.messages import (
    BeginQuorumEpochRequest,
    BeginQuorumEpochResponse,
    EndQuorumEpochRequest,
    EndQuorumEpochResponse,
    FetchRequest,
    FetchResponse,
    FetchSnapshotRequest,
    FetchSnapshotResponse,
    Refusal,
    Request,
    Response,
    VoteRequest,
    VoteResponse,
)
from controller.raft.state import Candidate, Follower, RaftState
from controller.raft.voters import AddVoter, RemoveVoter
from klamm.ids import NO_NODE, NodeId, OffsetAndEpoch
from tests.unit.raft.world import World, _Flush

WIDTH = 76


class Conversation(World):
    """A world without loss; network and disk take 0 or 1 ms, by the seed."""

    def __init__(self, seed: int, size: int = 3, spares: int = 0) -> None:
        self.page: list[str] = []
        self._orders: list[str] = []
        super().__init__(seed, size, spares)

    def note(self, text: str) -> None:
        """A line of the narrator's."""
        self.page += ["", f"# {text}"]

    def _step(self, node: NodeId, event: "ev.Event | _Flush") -> None:
        before = self.states[node]
        line = len(self.page)
        self._orders = []
        super()._step(node, event)
        after = self.states[node]
        idle = after is before or isinstance(event, ev.TimePassed)
        if idle and not self._orders and _role(before) == _role(after):
            return
        happened = f"{self.now_ms:>6}  {node}  {_event(event)}"
        self.page.insert(line, f"{happened:<{WIDTH}}{_role(after)}".rstrip())
        self.page += [f"             {each}" for each in _merged(self._orders)]
        self._orders = []

    def _carry_out(self, node: NodeId, effect: fx.Effect) -> None:
        said = _effect(effect)
        if said:
            self._orders.append(said)
        super()._carry_out(node, effect)


def _role(state: RaftState) -> str:
    match state.role:
        case Follower(leader=leader, lost=lost):
            return f"follower of {leader}{', lost' if lost else ''} ({state.epoch})"
        case Candidate(over=True):
            return f"candidate, lost ({state.epoch})"
    return f"{state.role_name} ({state.epoch})"


def _event(event: "ev.Event | _Flush") -> str:
    match event:
        case _Flush(end=end):
            return f"log durable to {end}"
        case ev.RequestReceived(sender=sender, request=request):
            return f"← {sender.node_id}  {_request(request)}"
        case ev.ResponseReceived(sender=sender, response=response):
            return f"← {sender}  {_response(response)}"
        case ev.RequestFailed(to=to):
            return f"no answer from {to}"
        case ev.StreamLost(peer):
            return f"its stream with {peer} broke"
        case ev.TimePassed():
            return "its deadline has come"
        case ev.ProposalMade(base_offset=base, count=count):
            return f"is asked to append {count} at {base}"
        case ev.VoterChangeAsked(change=AddVoter(voter=voter)):
            return f"is asked to add voter {voter.node_id}"
        case ev.VoterChangeAsked(change=RemoveVoter(key=key)):
            return f"is asked to remove voter {key.node_id}"
        case ev.ReadRequested():
            return "is asked for a linearizable read"
        case ev.SnapshotWritten(snapshot_id=snapshot_id):
            return f"has written a snapshot to {_end(snapshot_id)}"
        case ev.TrimRequested(to):
            return f"is asked to begin its log at {_end(to)}"
        case ev.SnapshotVerified(snapshot_id=snapshot_id):
            return f"the snapshot to {_end(snapshot_id)} is whole and durable"
        case ev.ResignRequested():
            return "is asked to resign"
        case ev.TransferRequested(target=target):
            return f"is asked to hand over to {'anybody' if target is None else target}"
    return type(event).__name__


def _effect(effect: fx.Effect) -> str:
    match effect:
        case fx.SaveQuorumState(epoch=epoch, voted_for=voted):
            return f"saves epoch {epoch}, vote {NO_NODE if voted is None else voted.node_id}"
        case fx.AppendControl(base_offset=base, voters=voters):
            return f"appends LeaderChange{'' if voters is None else ', Voters'} at {base}"
        case fx.AppendVoters(base_offset=base, voters=voters):
            return f"appends Voters {', '.join(map(str, voters.ids))} at {base}"
        case fx.RefuseChange(told=told):
            return f"refuses: {told}"
        case fx.AppendRecords(base_offset=base) | fx.AppendFetched(base_offset=base):
            return f"appends at {base}"
        case fx.Truncate(to):
            return f"cuts its log back to {to}"
        case fx.SendRequest(to, request):
            return f"→ {to}  {_request(request)}"
        case fx.SendResponse(response=response):
            return f"answers  {_response(response)}"
        case fx.SendRecords(response=response, start_offset=start):
            return f"answers  records from {start}, committed to {response.high_watermark}"
        case fx.Commit(high_watermark):
            return f"committed to {high_watermark}"
        case fx.Claim(epoch, end):
            return f"claims epoch {epoch} at {end}"
        case fx.Renounce(epoch):
            return f"renounces epoch {epoch}"
        case fx.RefuseProposal(why=why):
            return f"refuses the proposal: {why.value}"
        case fx.RefuseTransfer(why=why):
            return f"refuses to hand over: {why.value}"
        case fx.HandOver(successor=successor):
            return f"has handed over to {successor}"
        case fx.AnswerRead(index=index):
            return f"answers the read: {index}"
    return _snapshot_effect(effect)


def _snapshot_effect(effect: fx.Effect) -> str:
    match effect:
        case fx.AppendChunk(position=position):
            return f"keeps the chunk at byte {position}"
        case fx.VerifySnapshot():
            return "looks at all of it, and makes it durable"
        case fx.InstallSnapshot(snapshot_id):
            return f"the snapshot takes the log's place: end {_end(snapshot_id)}"
        case fx.LoadSnapshot(snapshot_id):
            return f"its state is the snapshot's, committed to {snapshot_id.offset}"
        case fx.TrimLog(to):
            return f"its log begins at {_end(to)}"
        case fx.SendChunk(response=response):
            return f"answers  the snapshot from byte {response.position} of {response.size_bytes}"
    return ""


def _request(request: Request) -> str:
    match request:
        case VoteRequest(epoch=epoch, log_end=end, pre_vote=True):
            return f"would you vote for me? epoch {epoch}, end {_end(end)}"
        case VoteRequest(epoch=epoch, log_end=end):
            return f"vote for me! epoch {epoch}, end {_end(end)}"
        case BeginQuorumEpochRequest(epoch=epoch):
            return f"I lead epoch {epoch}"
        case EndQuorumEpochRequest(epoch=epoch, successors=successors):
            return f"I lead epoch {epoch} no more; after me {', '.join(map(str, successors))}"
        case FetchSnapshotRequest(snapshot_id=end, position=position, max_bytes=most):
            return f"the snapshot {_end(end)}, {most} bytes from {position}"
        case FetchRequest(log_end=end, high_watermark=known, read_round=number):
            read = f", round {number}" if number else ""
            return f"fetch from {_end(end)}, committed to {known}{read}"


def _response(response: Response) -> str:
    leader = "" if response.leader == NO_NODE else f", {response.leader} leads {response.epoch}"
    if isinstance(response, FetchResponse) and response.successors:
        return f"{response.refusal.name}; after me {', '.join(map(str, response.successors))}"
    if response.refusal is not Refusal.NONE:
        return f"{response.refusal.name}{leader}"
    match response:
        case VoteResponse(vote_granted=granted):
            return f"{'yes' if granted else 'no'}{leader}"
        case FetchSnapshotResponse(position=position, length=length):
            return f"{length} bytes of the snapshot, from {position}"
        case FetchResponse(snapshot_id=OffsetAndEpoch() as end):
            return f"my log begins later: take the snapshot {_end(end)}"
        case FetchResponse(diverging=OffsetAndEpoch() as end):
            return f"your log parts from mine at {_end(end)}"
        case FetchResponse(batches=batches, high_watermark=known, read_round=number):
            count = sum(each.count for each in batches)
            read = f", round {number}" if number else ""
            return f"{count or 'no'} records, committed to {known}{read}"
        case BeginQuorumEpochResponse() | EndQuorumEpochResponse():
            return f"understood{leader}"
    raise AssertionError(response)


def _end(end: OffsetAndEpoch) -> str:
    return f"({end.offset}, epoch {end.epoch})"


def _merged(orders: list[str]) -> list[str]:
    """The same to several: said once."""
    merged: list[str] = []
    for order in orders:
        if merged and order.startswith("→ ") and merged[-1].startswith("→ "):
            to, _, what = order[2:].partition("  ")
            others, _, before = merged[-1][2:].partition("  ")
            if what == before:
                merged[-1] = f"→ {others}, {to}  {what}"
                continue
        merged.append(order)
    return merged
