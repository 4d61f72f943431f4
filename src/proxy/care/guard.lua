-- Runs commands in their order, as long as Redis has their keys. ARGV: per key the number of words, then the words.
local replies, at = {}, 1
for i, key in ipairs(KEYS) do
    if redis.call('EXISTS', key) == 0 then break end
    local words = tonumber(ARGV[at])
    local reply = redis.pcall(unpack(ARGV, at + 1, at + words))
    -- Numbers are doubles here. What they cannot hold exactly is read as text, and marked by a list.
    if type(reply) == 'number' and math.abs(reply) >= 9007199254740992 then
        local field = ARGV[at + 3]
        reply = {words == 4 and redis.call('HGET', key, field) or redis.call('GET', key)}
    end
    replies[i] = reply
    at = at + words + 1
end
return replies
