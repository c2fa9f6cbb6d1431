//! Whose error it is: of the account of the operator, or of the caller.

use super::*;

/// Credits, balance and limits of the account: 503 `upstream_quota`. Facts of each provider in our own words.
const MONEY: [Said; 20] = [
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the API."}}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits."}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Access denied, please make sure your account is in good standing.","type":"Arrearage","param":null,"code":"Arrearage"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Billing hard limit has been reached","type":"image_generation_user_error","param":null,"code":"billing_hard_limit_reached"}}"#,
    ),
    (
        429,
        r#"{"error":{"message":"You exceeded your current quota, please check your plan.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
    ),
    (
        429,
        r#"{"error":{"message":"Your account is not active.","type":"billing_not_active","param":null,"code":"billing_not_active"}}"#,
    ),
    (
        401,
        r#"{"error":{"message":"You exceeded your current quota.","type":"insufficient_quota","code":401}}"#,
    ),
    (
        402,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
    ),
    (
        402,
        r#"{"error":{"message":"This request requires more credits, or fewer max_tokens.","code":402}}"#,
    ),
    (
        402,
        r#"{"error":{"message":"Credit limit exceeded","type":"credit_limit","code":"credit_limit"}}"#,
    ),
    (
        403,
        r#"{"code":"permission-denied","error":"Your newly created team doesn't have any credits or licenses yet."}"#,
    ),
    (
        429,
        r#"{"code":"resource-exhausted","error":"Your team has either used all available credits or reached its monthly spending limit."}"#,
    ),
    (403, r#"{"error":{"message":"Key limit exceeded (total limit).","code":403}}"#),
    (
        403,
        r#"{"error":{"message":"The free tier of the model has been exhausted.","type":"AllocationQuota.FreeTierOnly","code":"AllocationQuota.FreeTierOnly"}}"#,
    ),
    (403, r#"{"error":{"code":"quotaExceeded","message":"Out of call volume quota."}}"#),
    (
        429,
        r#"{"error":{"type":"exceeded_current_quota_error","message":"Your account is suspended, please check your plan."}}"#,
    ),
    (429, r#"{"error":{"code":"1113","message":"余额不足或无可用资源包"}}"#),
    (
        403,
        r#"[{"error":{"code":403,"message":"This API method requires billing to be enabled.","status":"PERMISSION_DENIED"}}]"#,
    ),
    (
        400,
        r#"{"error":{"message":"Error code: 400 - Your credit balance is too low","type":"invalid_request_error"}}"#,
    ),
    (
        412,
        r#"{"error":{"message":"Spending limit of this account is reached","type":"invalid_request_error"}}"#,
    ),
];

/// Keys, rights and standing of the account: 502 `upstream_auth`.
const KEY: [Said; 26] = [
    (400, r#"{"code":"invalid-argument","error":"Incorrect API key provided: xa***ds."}"#),
    (
        400,
        r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT"}}]"#,
    ),
    (
        400,
        r#"{"error":{"code":400,"message":"API key expired. Please renew the API key.","status":"INVALID_ARGUMENT"}}"#,
    ),
    (
        400,
        r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Organization has been restricted.","type":"invalid_request_error","code":"organization_restricted"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Your organization must be verified to stream this model.","type":"invalid_request_error","param":"stream","code":"unsupported_value"}}"#,
    ),
    (
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-ab***yz.","type":"invalid_request_error","code":"invalid_api_key"}}"#,
    ),
    (
        401,
        r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
    ),
    (
        401,
        r#"{"error":{"message":"Authentication Fails (no such user)","type":"authentication_error"}}"#,
    ),
    (401, r#"{"detail":"Unauthorized"}"#),
    (401, r#"{"message":"Unauthorized","request_id":"x"}"#),
    (401, r#"{"error":"Unauthorized"}"#),
    (401, r#"{"error":{"message":"No auth credentials found","code":401}}"#),
    (401, r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key."}}"#),
    (
        401,
        r#"{"error":{"message":"Invalid API-key provided.","type":"invalid_request_error","code":"InvalidApiKey"}}"#,
    ),
    (401, ""),
    (
        403,
        r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use this resource."}}"#,
    ),
    (403, r#"{"code":"permission-denied","error":"The team is blocked."}"#),
    (
        403,
        r#"{"error":{"message":"Project does not have access to model m","type":"invalid_request_error","code":"model_not_found"}}"#,
    ),
    (
        403,
        r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","code":"unsupported_country_region_territory"}}"#,
    ),
    (403, r#"{"error":{"message":"Access to model denied.","code":"AccessDenied.Unpurchased"}}"#),
    (403, r#"{"message":"You don't have access to the model with the specified model ID."}"#),
    (
        403,
        r#"{"error":{"message":"The model is blocked at the organization level","type":"permissions_error","code":"model_permission_blocked_org"}}"#,
    ),
    (403, "<html>Forbidden</html>"),
    (
        400,
        r#"{"error":{"message":"Your OpenAI account has been deactivated","type":"invalid_request_error","code":"account_deactivated"}}"#,
    ),
];

/// The caller's own, though the words look otherwise: told as they are, and nobody else is asked.
const CALLERS: [Said; 14] = [
    (
        400,
        r#"{"error":{"message":"Invalid value: 'Your credit balance is too low'. Supported values are: 'user'.","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"'Your credit balance is too low' is not one of ['user']","type":"invalid_request_error","param":null,"code":null}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Your credit balance is too low is no role","type":"invalid_request_error","param":"messages.0.role","code":null}}"#,
    ),
    (400, r#"{"code":"invalid-argument","error":"messages[0]: bad text \"API key not valid\""}"#),
    (
        400,
        r#"{"error":{"message":"Invalid prompt: billing and credit balance questions","type":"invalid_request_error","code":"invalid_prompt"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Failed to download image","type":"invalid_request_error","param":"url","code":"invalid_image_url"}}"#,
    ),
    (422, r#"{"detail":[{"loc":["body","messages"],"msg":"unauthorized role"}]}"#),
    (
        400,
        r#"{"error":{"message":"Invalid token id 200099","type":"BadRequestError","param":null,"code":400}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"temperature must be below 2","type":"invalid_request_error","param":"temperature"}}"#,
    ),
    (403, r#"{"code":"permission-denied","error":"Content violates usage guidelines."}"#),
    (
        403,
        r#"{"error":{"message":"Your chosen model requires moderation and your input was flagged","code":403}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"The prompt triggered the content management policy","code":"content_filter","param":"prompt"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Input data may contain inappropriate content.","code":"data_inspection_failed","type":"data_inspection_failed"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"This model's maximum context length is 9 tokens, for your account","type":"invalid_request_error","code":"context_length_exceeded"}}"#,
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_operators_account_are_not_blamed_on_the_caller() {
    let all = MONEY.iter().map(|said| (*said, (503, "upstream_quota", "quota")));
    let all: Vec<_> =
        all.chain(KEY.iter().map(|said| (*said, (502, "upstream_auth", "key")))).collect();
    let mut replies = HashMap::new();
    let mut calls = Vec::new();
    for (number, (said, expected)) in all.iter().enumerate() {
        for (form, is_stream, reply) in forms(*said).into_iter().take(2) {
            let name = format!("{number}-{form}");
            replies.insert(name.clone(), reply);
            calls.push((name, is_stream, *said, *expected));
        }
    }
    let (troubled, sound) = pair(replies).await;
    let (first, second) = (troubled.table("a", OPERATORS_KEY, ""), sound.table("b", "k", ""));
    let gw = gateway().upstreams(&first).start().await;
    let with_another = gateway().upstreams(&format!("{first}{second}")).start().await;
    let mut wrong = Vec::new();
    // One user alone opens no breaker.
    let (key, other) = (gw.key("wide").await, with_another.key("wide").await);
    for (name, is_stream, said, (status, code, _)) in &calls {
        let stream = if *is_stream { r#","stream":true"# } else { "" };
        let path = SURFACES[name.len() % 4];
        let reply = ask(&gw, &key, path, name, stream).await;
        let text = reply.text();
        let is_told =
            text.contains("upstream") && !text.contains("redit") && !text.contains("key\"");
        let has_code = path == "/v1/messages" || reply.code() == *code;
        let is_free = gw.used(key.user).await == (0, 0);
        let saved = ask(&with_another, &other, path, name, stream).await;
        if reply.status != *status || !has_code || !is_told || !is_free || saved.status != 200 {
            wrong.push(format!(
                "{said:?} on {path}: {} {text} {is_free}, then {}",
                reply.status,
                saved.text()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (trouble, kind) in [("key", &KEY[..]), ("quota", &MONEY)] {
        let series = format!(
            "knockx_upstream_account_refusals_total{{upstream=\"a\",trouble=\"{trouble}\"}}"
        );
        assert_eq!(gw.metric(&series).await, 2 * kind.len() as u64, "{trouble}");
    }
    gw.finish().await;
    with_another.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_caller_stay_client_errors() {
    let replies = CALLERS.iter().enumerate().map(|(n, said)| (n.to_string(), json(said.0, said.1)));
    let (troubled, sound) = pair(replies.collect()).await;
    let tables = [troubled.table("a", OPERATORS_KEY, ""), sound.table("b", "k", "")].concat();
    let gw = gateway().upstreams(&tables).start().await;
    for (number, (status, said)) in CALLERS.iter().enumerate() {
        for stream in ["", r#","stream":true"#] {
            let key = gw.key("wide").await;
            let reply = ask(&gw, &key, SURFACES[0], &number.to_string(), stream).await;
            assert_eq!(
                reply.status,
                if *status == 403 { 403 } else { 400 },
                "{said}: {}",
                reply.text()
            );
            let said: Value = serde_json::from_str(said).unwrap();
            let error = &reply.json()["error"];
            if let Some(message) = said["error"]["message"].as_str() {
                assert_eq!(error["message"], message);
            }
            assert_eq!(gw.used(key.user).await, (0, 1), "it counts as a request: {said}");
        }
    }
    assert!(sound.asked().is_empty());
    gw.finish().await;
}
