-- For wrk: POST the lines of a file in turn, or GET if there is none, and say how long it took.

local requests, turn = {}, 0

function init(arguments)
  if not arguments[1] then
    requests[1] = wrk.format("GET")
    return
  end
  for line in io.lines(arguments[1]) do
    local headers = {["Content-Type"] = "application/json"}
    requests[#requests + 1] = wrk.format("POST", nil, headers, line)
  end
end

function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local failed = 0
  for _, count in pairs(summary.errors) do failed = failed + count end
  io.write(string.format(
    '{"answers": %d, "failed": %d, "seconds": %f, "p50": %d, "p90": %d, "p99": %d}\n',
    summary.requests, failed, summary.duration / 1e6,
    latency:percentile(50), latency:percentile(90), latency:percentile(99)))
end
