//! The texts of mails, in English and Simplified Chinese.
//!
//! A text has nothing in it that a user chose: a person who registers with the address of another must not be able
//! to send them words of their own.

use super::{Content, SecurityEvent};

/// A language of mails and of the console.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Language {
    #[default]
    English,
    Chinese,
}

/// Subject and plain text of a mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    pub subject: &'static str,
    pub body: String,
}

impl Language {
    /// The language that an `Accept-Language` header prefers; English if it names neither.
    #[must_use]
    pub fn accepted(header: Option<&str>) -> Self {
        let ranges = header.unwrap_or_default().split(',').filter_map(Self::range);
        // Of equal ones the first.
        let best = ranges.reduce(|best, other| if other.1 > best.1 { other } else { best });
        best.map_or(Self::English, |(language, _)| language)
    }

    /// The language with this tag (`en`, `zh`, `zh-CN`).
    #[must_use]
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default();
        match primary {
            _ if primary.eq_ignore_ascii_case("en") => Some(Self::English),
            _ if primary.eq_ignore_ascii_case("zh") => Some(Self::Chinese),
            _ => None,
        }
    }

    /// The language of one range with its weight; `None` for other languages, and for weight 0.
    fn range(range: &str) -> Option<(Self, f32)> {
        let (name, weight) = range.split_once(';').unwrap_or((range, "q=1"));
        let weight: f32 = weight.trim().strip_prefix("q=")?.parse().ok()?;
        let language = Self::of_tag(name.trim())?;
        (weight > 0.0).then_some((language, weight))
    }
}

impl Content {
    /// The mail's text; `site` is the address of the gateway.
    #[must_use]
    pub fn text(&self, language: Language, site: &str) -> Text {
        match language {
            Language::English => self.english(site),
            Language::Chinese => self.chinese(site),
        }
    }

    fn english(&self, site: &str) -> Text {
        let (subject, body) = match self {
            Self::VerifyEmail { url } => (
                "Verify your e-mail address",
                format!(
                    "This e-mail address was entered for an account at {site}.\n\n\
                     To verify it, open this link within 24 hours:\n\n{url}\n\n\
                     If it was not you, ignore this mail.\n"
                ),
            ),
            Self::ResetPassword { url } => (
                "Set a new password",
                format!(
                    "A new password was requested for your account at {site}.\n\n\
                     To set it, open this link within one hour. It works once, and ends all sessions:\n\n{url}\n\n\
                     If it was not you, ignore this mail: your password stays as it is.\n"
                ),
            ),
            Self::Invitation { url } => (
                "Your account is ready",
                format!(
                    "An account was made for you at {site}.\n\n\
                     To choose your password, open this link within 7 days. It works once:\n\n{url}\n"
                ),
            ),
            Self::EmailChanged => (
                "Your e-mail address was changed",
                format!(
                    "Your account at {site} has another e-mail address now, and no longer uses this one.\n\n\
                     If it was not you, another person knows your password: tell the operator of {site} at once.\n"
                ),
            ),
            Self::Security(event) => {
                let (subject, what) = event.english();
                let advice = event.english_advice();
                (
                    subject,
                    format!(
                        "{what} Your account is at {site}.\n\n{advice}, and tell the operator of {site}.\n"
                    ),
                )
            }
        };
        Text { subject, body }
    }

    fn chinese(&self, site: &str) -> Text {
        let (subject, body) = match self {
            Self::VerifyEmail { url } => (
                "验证你的邮箱地址",
                format!(
                    "有人在 {site} 的账号中填写了此邮箱地址。\n\n\
                     请在 24 小时内打开以下链接完成验证：\n\n{url}\n\n\
                     如果不是你本人操作，请忽略此邮件。\n"
                ),
            ),
            Self::ResetPassword { url } => (
                "设置新密码",
                format!(
                    "有人请求为你在 {site} 的账号设置新密码。\n\n\
                     请在一小时内打开以下链接进行设置。链接仅可使用一次，并会结束所有会话：\n\n{url}\n\n\
                     如果不是你本人操作，请忽略此邮件，你的密码不会改变。\n"
                ),
            ),
            Self::Invitation { url } => (
                "你的账号已创建",
                format!(
                    "已为你在 {site} 创建账号。\n\n\
                     请在 7 天内打开以下链接设置密码。链接仅可使用一次：\n\n{url}\n"
                ),
            ),
            Self::EmailChanged => (
                "你的邮箱地址已更改",
                format!(
                    "你在 {site} 的账号已改用其他邮箱地址，不再使用此地址。\n\n\
                     如果不是你本人操作，说明有人知道你的密码，请立即联系 {site} 的运营者。\n"
                ),
            ),
            Self::Security(event) => {
                let (subject, what) = event.chinese();
                let advice = event.chinese_advice();
                (
                    subject,
                    format!("{what}账号位于 {site}。\n\n{advice}，并联系 {site} 的运营者。\n"),
                )
            }
        };
        Text { subject, body }
    }
}

impl SecurityEvent {
    /// What to do if the owner did not make the change.
    fn english_advice(self) -> &'static str {
        match self {
            Self::IdentityLinked => {
                "If it was not you, unlink it on the page of your account, set a new password at once"
            }
            _ => "If it was not you, set a new password at once",
        }
    }

    fn chinese_advice(self) -> &'static str {
        match self {
            Self::IdentityLinked => "如果不是你本人操作，请在账号页面取消关联，立即设置新密码",
            _ => "如果不是你本人操作，请立即设置新密码",
        }
    }

    /// The subject, and what happened.
    fn english(self) -> (&'static str, &'static str) {
        match self {
            Self::PasswordChanged => {
                ("Your password was changed", "A new password was set for your account.")
            }
            Self::SecondFactorEnabled => {
                ("The second factor is on", "A second factor was turned on for your account.")
            }
            Self::SecondFactorRemoved => (
                "The second factor is off",
                "The second factor of your account was turned off: the password alone is enough to log in.",
            ),
            Self::RecoveryCodesReplaced => (
                "New recovery codes",
                "New recovery codes were made for your account. The previous ones no longer work.",
            ),
            Self::IdentityLinked => (
                "A sign-in provider was linked",
                "An identity of the sign-in provider was linked to your account: it can log in to it.",
            ),
            Self::IdentityUnlinked => (
                "A sign-in provider was unlinked",
                "An identity of the sign-in provider was unlinked from your account: it can no longer log in to it.",
            ),
        }
    }

    fn chinese(self) -> (&'static str, &'static str) {
        match self {
            Self::PasswordChanged => ("你的密码已更改", "你的账号已设置新密码。"),
            Self::SecondFactorEnabled => ("两步验证已启用", "你的账号已启用两步验证。"),
            Self::SecondFactorRemoved => {
                ("两步验证已关闭", "你的账号已关闭两步验证，仅凭密码即可登录。")
            }
            Self::RecoveryCodesReplaced => {
                ("恢复码已更换", "你的账号已生成新的恢复码，之前的恢复码已失效。")
            }
            Self::IdentityLinked => {
                ("已关联登录服务", "登录服务的一个身份已关联到你的账号，可用它登录。")
            }
            Self::IdentityUnlinked => {
                ("已取消关联登录服务", "登录服务的一个身份已与你的账号取消关联，不能再用它登录。")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preferred_language_of_ours_is_taken() {
        for (header, expected) in [
            (None, Language::English),
            (Some(""), Language::English),
            (Some("fr, de;q=0.9"), Language::English),
            (Some("zh-CN,zh;q=0.9,en;q=0.8"), Language::Chinese),
            (Some("en-GB;q=0.8, zh-Hans;q=0.9"), Language::Chinese),
            (Some("zh;q=0, en"), Language::English),
            (Some("en, zh"), Language::English),
            (Some("ZH"), Language::Chinese),
            (Some("zh;q=x, ;;;, *"), Language::English),
        ] {
            assert_eq!(Language::accepted(header), expected, "{header:?}");
        }
    }

    #[test]
    fn every_text_names_the_site_and_its_link_on_a_line_of_its_own() {
        let url = "https://api.example.com/console/x?token=t".to_owned();
        let contents = [
            Content::VerifyEmail { url: url.clone() },
            Content::ResetPassword { url: url.clone() },
            Content::Invitation { url: url.clone() },
            Content::EmailChanged,
            Content::Security(SecurityEvent::PasswordChanged),
            Content::Security(SecurityEvent::SecondFactorEnabled),
            Content::Security(SecurityEvent::SecondFactorRemoved),
            Content::Security(SecurityEvent::RecoveryCodesReplaced),
            Content::Security(SecurityEvent::IdentityLinked),
            Content::Security(SecurityEvent::IdentityUnlinked),
        ];
        for content in contents {
            for language in [Language::English, Language::Chinese] {
                let Text { subject, body } = content.text(language, "https://api.example.com");
                assert!(!subject.is_empty() && body.contains("https://api.example.com"), "{body}");
                let has_link = body.lines().any(|line| line == url);
                assert_eq!(
                    has_link,
                    !matches!(content, Content::EmailChanged | Content::Security(_)),
                    "{body}"
                );
                assert_eq!(body.is_ascii(), language == Language::English, "{body}");
            }
        }
    }
}
